// A bot on the official JavaScript client, against the stand-in: what that accepts from a stranger, it checks fairly.
const { App } = require("@slack/bolt");

const [apiUrl, botToken, appToken] = process.argv.slice(2);
const app = new App({
  token: botToken,
  appToken,
  socketMode: true,
  clientOptions: { slackApiUrl: apiUrl },
});

app.event("app_mention", async ({ event, client, context }) => {
  const where = { channel: event.channel, thread_ts: event.ts };
  const reader = { recipient_team_id: context.teamId, recipient_user_id: event.user };
  const stream = client.chatStream({ ...where, ...reader, buffer_size: 1 });
  await stream.append({ markdown_text: "**one** " });
  await stream.append({ markdown_text: "two " });
  await stream.stop({ markdown_text: "three" });
  const posted = await client.chat.postMessage({ ...where, text: "plain" });
  await client.chat.update({ channel: event.channel, ts: posted.ts, text: "edited" });
  const thread = await client.conversations.replies({ channel: event.channel, ts: event.ts });
  await client.chat.postEphemeral({ ...where, user: event.user, text: `read ${thread.messages.length}` });
  await client.files.uploadV2({ channel_id: event.channel, thread_ts: event.ts, filename: "a.txt", file: Buffer.from("text") });
  try {
    await client.chat.startStream({ channel: event.channel, thread_ts: event.ts, markdown_text: "x" });
  } catch (error) {
    await client.chat.postMessage({ ...where, text: `refused: ${error.data.error}` });
  }
});

app.command("/visavis", async ({ ack, command, respond }) => {
  await ack();
  await respond({ text: `heard ${command.text}`, response_type: "ephemeral" });
});

app.start().catch((error) => {
  console.error(error);
  process.exit(1);
});
