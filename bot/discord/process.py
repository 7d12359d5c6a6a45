"""The process that answers in Discord:

python -m visavis.bot.discord.process
"""

from __future__ import annotations

from visavis.bot.adapters.process import main
from visavis.bot.discord.service import DiscordService

if __name__ == "__main__":
    main(DiscordService)
