// Deep Chat (npm: deep-chat), a chat element that nobody here wrote, talks to visavis through our connection.js.
//
//     npm install --no-save deep-chat
//     VISAVIS_ALLOWED_ORIGINS=http://127.0.0.1:9000 visavis serve &
//     python -m http.server 9000 --bind 127.0.0.1
//
// Then open http://127.0.0.1:9000/docs/examples/deep-chat/ (another address of visavis: ?chat=http://...).

const home = new URL(new URLSearchParams(location.search).get("chat") ?? "http://127.0.0.1:8080");
const { Connection } = await import(new URL("connection.js", home));

const connection = new Connection({ endpoint: home });
connection.settle(); // Deep Chat would not show the answer to what was asked before a reload
connection.open();

/** One question of Deep Chat, with its files, as a turn; the answer comes back piece by piece. */
async function ask(body, signals) {
  const form = body instanceof FormData;
  const { text } = form ? JSON.parse(body.get("message1") ?? "{}") : body.messages[0];
  const files = form ? body.getAll("files") : [];
  try {
    const pictures = await Promise.all(files.map((file) => connection.pictures.upload(file)));
    const turn = connection.ask(text || "Describe the picture.", pictures);
    signals.stopClicked.listener = () => connection.cancel();
    listen(turn.id, signals);
  } catch (error) {
    signals.onResponse({ error: error.message });
  }
}

function listen(turn, signals) {
  const heard = new AbortController();
  const end = (last) => (heard.abort(), last && signals.onResponse(last), signals.onClose());
  const hear = ({ detail: frame }) => {
    if (frame.turn !== turn) return;
    if (frame.type === "turn.delta") signals.onResponse({ text: frame.text });
    if (frame.type === "turn.completed" || frame.type === "turn.cancelled") end();
    if (frame.type === "turn.failed") end({ error: frame.message });
  };
  signals.onOpen();
  connection.addEventListener("turn", hear, { signal: heard.signal });
}

// made here, not in the page: told of `connect` afterwards it would draw itself anew, and lose a picture chosen meanwhile
const chat = document.createElement("deep-chat");
chat.setAttribute("images", "true");
chat.connect = { stream: true, handler: ask };
document.body.append(chat);
