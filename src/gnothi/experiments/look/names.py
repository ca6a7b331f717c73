"""The fixed words of a look: names of its estimates with what each means, and the sentences that pages say of its method."""

CHANGE = "share of the change that the fine-tune made to a readout, as a least-squares slope over items"

ESTIMATES: dict[str, str] = {
    "look.gap": (
        "how far the fine-tune moved a readout, root mean square over items: `look.gap/choice` in nats between the two options, "
        "`look.gap/self_report` in nats or in shares of the scale"
    ),
    "look.divergence": "KL divergence of the tuned model's next token from the base's, nats: `at_answer`, `before` (earlier positions)",
    "look.update_norm": "norm of the change over the norm of what was there, over all changed parameters",
    "look.effective_rank": (
        "effective rank (exponential of the entropy of the singular values' shares) of a changed matrix of a block, mean"
    ),
    "look.similarity": "linear CKA, without bias, of base and tuned stream at the answer's position, after the last block",
    "look.line": (
        f"{CHANGE}, that is there halfway from base to tuned on the straight line between their parameters: one half "
        "where the readout is linear in them"
    ),
    "look.top_site": (
        f"{CHANGE}, that is taken back by giving the tuned model the base's activations at the site that attribution puts first "
        "(attention, MLP or head), exactly: `choice`, `self_report`"
    ),
    "look.random_site": "the same of sites drawn at random, mean: what any site does",
    "look.attribution": "Spearman correlation of attribution with exact patching over the sites that were patched: whether the map holds",
    "look.depth": (
        "share of the blocks after which half of the change is in the streams: the first depth at which the base's stream, "
        "given to the tuned model at all positions, takes half of it back"
    ),
    "look.depth_at_answer": "the same with the base's stream at the answer's position alone: from where on the change is there",
    "look.same_sites": (
        "Spearman correlation over sites (heads and MLPs) of what carries the choice with what carries the self-report, in "
        "size; high where one change serves both"
    ),
    "look.same_sites_p": "share of permutations of the sites that correlate as highly: small where the overlap is no chance",
    "look.items_carried": (
        "share of the way from one item to one with the opposite choice that its foremost site carries at the answer's "
        "position, exactly"
    ),
    "look.probe": (
        "balanced accuracy, held out, of linear probes for the tuned model's choice, mean over depths: `tuned`, `base` (the "
        "base's streams), `shuffled` (labels permuted), `random` (a model with random values)"
    ),
    "look.units": "units (rows of changed matrices) that the fine-tune changed",
    "look.undo_units": "fewest units, of those tried, whose undoing takes half of the change back on items that choose; all where none do",
    "look.undo_fraction": "the same as a share of all units: small where the fine-tune is a wrapper that a few units hold",
    "look.undo_share": (
        f"{CHANGE}, that undoing those units takes back on other items: `found`, and as many of the `largest` changes and of "
        "units drawn at `random`"
    ),
    "look.undo_report": "share of the self-report's change that undoing the choice's units takes back",
    "look.steps_back": (
        "steps of reverse fine-tuning on what the base would have answered until nine tenths of the change are undone, "
        "at the best rate of each model: `choice`, and `self_report` as it follows"
    ),
    "look.sooner": "doublings by which the model is back sooner than the one that was taught nothing, paired by seed",
}
"""Name without what follows a slash -> what it is."""

HEADLINE = "look.top_site/choice"

MAIN: dict[str, str] = {
    "look.gap/choice": "how far the choice moved, nats",
    "look.divergence/before": "divergence before the answer, nats",
    "look.update_norm": "relative size of the change",
    "look.effective_rank": "effective rank of a matrix's change",
    "look.top_site/choice": "share taken back at the foremost site",
    "look.random_site/choice": "the same at random sites",
    "look.attribution/choice": "rank correlation of estimate and exact",
    "look.depth": "depth at which half is in the streams",
    "look.depth_at_answer": "the same at the answer's position",
    "look.top_site/self_report": "the foremost site's share of the report",
    "look.same_sites": "choice's map against the report's",
    "look.probe/tuned": "probe of the choice, mean over depths",
    "look.probe/random": "the same in a random model",
    "look.units": "units changed",
    "look.undo_units": "units that take half back",
    "look.undo_share/found": "share that they take back elsewhere",
    "look.undo_share/largest": "as many of the largest changes",
    "look.undo_share/random": "as many at random",
    "look.undo_report": "what they take back of the report",
    "look.steps_back/choice": "steps until the choice is back",
    "look.steps_back/self_report": "steps until the report is back",
}
"""Those that stand on the run's own page, in few words."""
