"""The process that answers in Slack:

python -m visavis.bot.slack.process
"""

from __future__ import annotations

from visavis.bot.adapters.process import main
from visavis.bot.slack.service import SlackService

if __name__ == "__main__":
    main(SlackService)
