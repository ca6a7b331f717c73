"""The labs: paper C's test beds, each one command. A lab is a class of `base.AbstractLab`; `plan` makes runs of them."""

LABS: dict[str, str] = {
    "tracr": "gnothi.experiments.labs.tracr:Tracr",
    "pcfg": "gnothi.experiments.labs.pcfg:Pcfg",
    "stories": "gnothi.experiments.labs.stories:Stories",
}
"""Name on the command line -> class, as `module:Class`; imported when it is run."""
