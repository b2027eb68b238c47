"""The HTML page that people look at."""

import dagster as dg

from star_pipeline.defs.asset_factory import lake_asset
from star_pipeline.defs.automation import once_settled
from star_pipeline.defs.resources import LakeResource
from star_pipeline.report.build import build_report


@lake_asset(
    "report",
    "5_publish",
    "`report.html`: one self-contained page on the lake. How the final data set came to be, plots of pairs, scores, judge and cost, "
    "each with its numbers, and a browser of samples: seed, reference, selected and rejected candidates side by side, with scores and the "
    "judge's words. Open it in any browser; `star-pipeline report` makes it elsewhere, or with more samples. Replaced atomically.",
    partitioned=False,
    locked=False,
    automation=once_settled,
    deps=["inspection"],
    kinds=frozenset({"html"}),
)
def report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
    home = lake.open()
    page = build_report(home)
    home.write_bytes(home.report, page.html)
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(home.report)),
            "link": dg.MetadataValue.url(home.report.as_uri()),
            "bytes": len(page.html),
            "samples": page.samples,
            "seeds": page.seeds,
        }
    )
