"""A bot with hikari, run by an interpreter that has it (`make test-all`): hears, answers, edits, defers, is limited.

python second_client.py API_URL TOKEN
"""

import sys

import hikari

api_url, token = sys.argv[1:]
bot = hikari.GatewayBot(
    token,
    rest_url=api_url,
    intents=hikari.Intents.GUILDS | hikari.Intents.GUILD_MESSAGES | hikari.Intents.DM_MESSAGES,
    banner=None,
    logs="WARNING",
)


@bot.listen()
async def register(event: hikari.StartingEvent) -> None:
    application = await bot.rest.fetch_application()
    ask = bot.rest.slash_command_builder("ask", "Ask about a picture")
    ask.add_option(
        hikari.CommandOption(type=hikari.OptionType.STRING, name="prompt", description="?", is_required=True)
    )
    ask.add_option(hikari.CommandOption(type=hikari.OptionType.ATTACHMENT, name="image", description="A picture"))
    describe = bot.rest.context_menu_command_builder(hikari.CommandType.MESSAGE, "Describe picture")
    await bot.rest.set_application_commands(application, [ask, describe])


@bot.listen()
async def hear(event: hikari.MessageCreateEvent) -> None:
    """Says what it has heard, once and, in edits, again until there is a limit to wait out."""
    if event.is_bot or not event.content:
        return
    answer = await event.message.respond(f"heard: {event.content}", reply=True, mentions_reply=False)
    for number in range(7):
        await answer.edit(f"heard {number} times: {event.content}")


@bot.listen()
async def interact(event: hikari.InteractionCreateEvent) -> None:
    interaction = event.interaction
    if isinstance(interaction, hikari.CommandInteraction):
        await interaction.create_initial_response(hikari.ResponseType.DEFERRED_MESSAGE_CREATE)
        row = bot.rest.build_message_action_row()
        row.add_interactive_button(hikari.ButtonStyle.SECONDARY, "again", label="Again")
        files = list((interaction.resolved.attachments if interaction.resolved else {}).values())
        sizes = [len(await file.read()) for file in files]
        await interaction.edit_initial_response(f"saw {sizes}", component=row)
    elif isinstance(interaction, hikari.ComponentInteraction):
        await interaction.create_initial_response(hikari.ResponseType.MESSAGE_UPDATE, "pressed", components=[])
        await interaction.execute(
            "below", attachment=hikari.Bytes(b"pixels", "why.png"), flags=hikari.MessageFlag.EPHEMERAL
        )


bot.run(check_for_updates=False)
