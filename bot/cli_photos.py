"""The commands about photos in files, without a server: `ask`, `caption`, `search`, `explain`; their flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.bot.cli_options import Beams, DataDir, Device, Model, fail, read_region, read_settings, run, sentences


def ask(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A JPEG, PNG, WebP or GIF file.")],
    questions: Annotated[
        list[str], typer.Argument(metavar="QUESTION", help="What to ask; several are asked in order.")
    ],
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="PHOTO", help="One more photo, for models that take several; may be given again."),
    ] = None,
    model: Model = None,
    device: Device = None,
) -> None:
    """Ask about a photo, without a server.

    Example: visavis ask cat.jpg "What is the cat doing?" "What color is it?"
    """
    settings = read_settings(model=model, device=device)
    from visavis.bot import terminal_chat

    with sentences():
        run(terminal_chat.ask(settings, [photo, *(also or [])], questions))


def caption(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PHOTO|FOLDER", help="JPEG, PNG, WebP or GIF files, or folders of them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a photo.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")] = False,
    site: Annotated[
        Path | None, typer.Option(help="Find the <img> tags of a folder of HTML files that have no alt text.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="With --site: write the alt texts; else they are shown.")
    ] = False,
    beams: Beams = 1,
    model: Model = None,
    device: Device = None,
) -> None:
    """Describe each photo in one line, without a server.

    A photo that cannot be read gets a line of its own, and the exit code is 1.
    Example: visavis caption photos/ --csv > captions.csv
    """
    if (
        bool(photos) == (site is not None)
        or as_json + as_csv > 1
        or (site and as_json + as_csv)
        or (write and not site)
    ):
        fail("give photos (with --json or --csv if you like), or --site FOLDER (with --write to change it)", code=2)
    settings = read_settings(model=model, device=device)
    from visavis.bot import captions
    from visavis.bot.site_captions import caption_site

    with sentences():
        if site is not None:
            all_well = run(caption_site(settings, site, write=write))
        else:
            found = captions.find_photos(photos or [])
            if not found:
                fail("there are no photos in the folders given", code=1)
            printer = captions.json_printer if as_json else captions.csv_printer if as_csv else captions.line_printer
            all_well = run(captions.captions(settings, found, printer(), beams=beams))
        if not all_well:
            raise typer.Exit(1)


def search(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Photos, in it and below.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What they should show.")],
    count: Annotated[int, typer.Option(min=1, help="At most so many photos.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a photo.")] = False,
    data_dir: DataDir = None,
    model: Model = None,
    device: Device = None,
) -> None:
    """Find photos by what they show; the likest comes first.

    Every photo is looked at once; later searches in the same folder are quick.
    Example: visavis search photos/ "a dog in the snow"
    """
    settings = read_settings(data_dir=data_dir, model=model, device=device)
    from visavis.bot.captions import find_photos

    with sentences():
        photos = find_photos([folder])
        if not photos:
            fail("there are no photos in that folder", code=1)
        from visavis.bot import search as searching

        if not searching.search(settings, photos, text, count, as_json=as_json):
            raise typer.Exit(1)


def explain(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A JPEG, PNG, WebP or GIF file.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.")],
    out: Annotated[Path | None, typer.Option(help="Write a sheet of heat maps here (.png, .jpg).")] = None,
    cover: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Ask again with this part hidden; shares 0..1 of the photo.")
    ] = None,
    model: Model = None,
    device: Device = None,
) -> None:
    """Show where in a photo an answer comes from.

    Example: visavis explain dog.jpg "What is the dog doing?" --out map.png --cover 0.5,0,0.5,1
    """
    settings = read_settings(model=model, device=device)
    part = read_region(cover)
    from visavis.bot import explain as explaining

    with sentences():
        run(explaining.explain(settings, photo, question, out, part))
