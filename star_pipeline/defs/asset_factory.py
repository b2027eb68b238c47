"""What all assets show and share: column schemas, previews, versions, the lake's lock, and errors in one line."""

import functools
import gc
import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters.consistency import VERSION
from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.config import StarConfig
from star_pipeline.core.checks import Blocked, Finding, Rule, not_looked_at, one_a_rule, well_formed
from star_pipeline.core.errors import CheckFailed, StarError
from star_pipeline.core.locking import LakeLock
from star_pipeline.core.markdown import inline
from star_pipeline.core.markdown import table as markdown_table
from star_pipeline.core.table_spec import AnyTable
from star_pipeline.core.tables import SHARD_TABLES, TASK_DOMAINS
from star_pipeline.defs.automation import Automation
from star_pipeline.defs.resources import LakeLockResource, SettingsResource
from star_pipeline.defs.scope import Presentation, Scope
from star_pipeline.figures import Figure
from star_pipeline.figures.image import as_markdown, coverage
from star_pipeline.instance.attempts import KIND
from star_pipeline.instance.home import database_of
from star_pipeline.instance.processes import told_to_hold

Alone = Callable[[LakeLock, str, AbstractContextManager[None]], AbstractContextManager[None]]
"""Holds a lake for an owner while an asset is made; the last one, which tells so of the run, may be entered once it is held."""
Metadata = Mapping[str, Any]
"""What Dagster shows beside a result. Any: its union of all that it can show has no public name."""
Body = Callable[..., Any]
"""An asset's function. Any: it takes its inputs by name, each of its own type, and Dagster looks at what it gives."""
SIMILARITY = "near_duplicate_similarity"
"""In task_domains' own metadata: the cosine that its groups of near-duplicates were made with."""
_CELL = 70
PUBLISHED_GROUP = "5_publish"
_PUBLISHED_FROM = ("tables", "star_dataset", "journal", "calibration", "study")
"""The folders of a lake that what is made of all shards looks into, again and again."""
_ERROR = dg.AssetCheckSeverity.ERROR


@dataclass(frozen=True)
class AllShards:
    """A dependency on an asset as a whole, whatever shards there are."""

    asset: str


@dataclass(frozen=True)
class LakeAsset:
    """An asset of a lake before it has its place: ``build`` makes it for one scope."""

    name: str
    parents: frozenset[str]
    """The assets of the same shard, or of all shards, that it is made from."""
    build: Callable[[Scope, Presentation], dg.AssetsDefinition]
    code_version: str | None = None


def _publishing(lock: LakeLock, owner: str, _: AbstractContextManager[None]) -> AbstractContextManager[None]:
    return lock.hold_publishing(owner)


def lake_asset(
    name: str,
    group: str,
    description: str,
    *,
    spec: AnyTable | None = None,
    partitioned: bool | dg.PartitionsDefinition[str] = True,
    locked: bool = True,
    alone: Alone = _publishing,
    pool: str | None = None,
    deps: Iterable[str | AllShards] = (),
    kinds: frozenset[str] = frozenset({"parquet"}),
    equation: str | None = None,
    code_version: str | None = None,
    automation: Automation | None = None,
    checks: Sequence[Rule] = (),
    options: Mapping[str, dg.Field] | None = None,
) -> Callable[[Body], LakeAsset]:
    """``dg.asset`` with what the project's assets have in common, for any scope.

    A parameter that is annotated with a resource's class is that resource of the scope; any other one is the table of its name.
    ``locked`` assets run only while this process holds the lake, in the pool of one run; the others, which are made of all shards,
    one at a time, whoever makes them, held by ``alone``; ``pool`` is theirs. ``partitioned`` True is by shard.
    StarErrors end a step as one line.
    ``checks`` are the rules that the result's findings are about: where a blocking one fails, the result is not written.
    ``code_version`` goes up when an equation changes: what was made with the former one is then shown as out of date. The first version
    is not named: a name that lakes do not have yet would show all of them as out of date, and nothing in them is.
    ``options`` are what a run may choose for it in the Launchpad.
    """

    def decorate(function: Body) -> LakeAsset:
        def build(scope: Scope, shown: Presentation) -> dg.AssetsDefinition:
            resources = {scope.name(own): own for own, kind in _resources(function).items()}
            lock, configured = scope.name("lake_lock"), scope.name("settings")

            @functools.wraps(function)
            def guarded(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[Any]:  # as in Body
                try:
                    held: AbstractContextManager[None] = nullcontext()
                    listed: AbstractContextManager[None] = nullcontext()
                    if locked:
                        inputs.pop(lock).require()
                    else:
                        settings = inputs[configured] if configured in resources else inputs.pop(configured)
                        home = inputs[scope.name("lake")].open()
                        read, run_id = settings.load(), context.run.run_id
                        telling = told_to_hold(context.instance, run_id, home, database_of(read), "study")
                        held = alone(lake_lock(read, home), f"run {run_id[:8]}", telling)
                        if group == PUBLISHED_GROUP:  # made of every shard, as they are now
                            listed = home.as_listed(*_PUBLISHED_FROM)
                    given = {resources.get(name, name): value for name, value in inputs.items()}
                    with held, listed, _less_garbage_collection():
                        result = function(context, **given)
                except Blocked as error:
                    yield check_result(error.finding)
                    yield from (check_result(not_looked_at(rule)) for rule in checks if rule != error.finding.rule)
                    raise failure(error) from error
                except StarError as error:
                    raise failure(error) from error
                if blocked := blocking(result):
                    yield from result.check_results
                    raise failure(CheckFailed("; ".join(str(found.description) for found in blocked)))
                yield result

            more: dict[str, type] = {lock: LakeLockResource} if locked else {}
            if not locked and configured not in resources:
                more = {configured: SettingsResource}
            tables = _sign(guarded, function, scope, more)
            shards = scope.partitions if partitioned is True else partitioned or None
            return dg.asset(
                key=scope.key(name),
                ins={table: dg.AssetIn(key=scope.key(table)) for table in tables},
                io_manager_key=scope.name("io_manager"),
                group_name=scope.name(group) if scope.prefix else group,
                description=description,
                partitions_def=shards,
                pool=scope.pool if locked else pool and scope.name(pool),
                deps=[_dep(scope, dep) for dep in deps],
                kinds=set(kinds),
                config_schema=dict(options) if options else None,
                owners=list(shown.owners) or None,
                code_version=code_version,
                freshness_policy=shown.freshness if group == PUBLISHED_GROUP else None,
                automation_condition=automation(scope) if automation else None,
                tags={"stage": group.split("_", 1)[1], **({"equation": equation} if equation else {})},
                metadata={"dagster/column_schema": column_schema(spec)} if spec else {},
                check_specs=[_check_spec(rule, scope.key(name), shards) for rule in checks],
            )(guarded)

        inputs = set(inspect.signature(function).parameters) - set(_resources(function)) - {"context"}
        named = (dep if isinstance(dep, str) else dep.asset for dep in deps)
        return LakeAsset(name, frozenset({*inputs, *named}), build, code_version)

    return decorate


@contextmanager
def _less_garbage_collection() -> Iterator[None]:
    """For a step: it imports tens of thousands of objects, and would look through them all for garbage again and again."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _resources(function: Body) -> dict[str, type]:
    return {
        name: kind
        for name, kind in function.__annotations__.items()
        if isinstance(kind, type) and issubclass(kind, dg.ConfigurableResource)
    }


def _sign(guarded: Body, function: Body, scope: Scope, more: Mapping[str, type]) -> list[str]:
    """Give ``guarded`` the signature that Dagster reads inputs and resources off; returns the names of the inputs."""
    resources = _resources(function)
    context, *others = inspect.signature(function).parameters.values()
    parameters = [context] + [
        parameter.replace(name=scope.name(parameter.name)) if parameter.name in resources else parameter
        for parameter in others
    ]
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters += [inspect.Parameter(name, keyword, annotation=kind) for name, kind in more.items()]
    signature = inspect.signature(function).replace(parameters=parameters)
    guarded.__signature__ = signature  # type: ignore[attr-defined]  # Dagster looks for it, as inspect does
    guarded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return [parameter.name for parameter in others if parameter.name not in resources]


def _dep(scope: Scope, dep: str | AllShards) -> dg.AssetDep:
    if isinstance(dep, AllShards):
        return dg.AssetDep(scope.key(dep.asset), partition_mapping=dg.AllPartitionMapping())
    return dg.AssetDep(scope.key(dep))


def _check_spec(rule: Rule, asset: dg.AssetKey, shards: dg.PartitionsDefinition[str] | None) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # a check that tells one shard from another is a preview in Dagster 1.13
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            rule.name, asset=asset, description=rule.asks, blocking=rule.blocks, partitions_def=shards
        )


def failure(error: StarError) -> dg.Failure:
    """What Dagster is told of an error: its line, its class, and that trying again at once is no use."""
    return dg.Failure(description=str(error), metadata={KIND: type(error).__name__}, allow_retries=False)


def column_schema(spec: AnyTable) -> dg.TableSchema:
    """The table's columns as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                str(c.type),
                c.description,
                dg.TableColumnConstraints(nullable=c.nullable, unique=spec.key == (c.name,)),
            )
            for c in spec.columns
        ]
    )


def table_result(
    settings: StarConfig,
    spec: AnyTable,
    rows: Sequence[object],
    preview: Sequence[str],
    metadata: Metadata | None = None,
    findings: Sequence[Finding] = (),
    origin: Mapping[str, str] | None = None,
) -> dg.MaterializeResult[pa.Table]:
    """The result of an asset that is a table: its rows, versioned by content, with a preview of the ``preview`` columns.

    Where there are ``findings``, it is checked to be well formed as well. ``origin`` is what the file's metadata says beside the
    configuration.
    """
    table = stamped(spec.to_arrow(rows), settings, spec)
    table = table.replace_schema_metadata({**table.schema.metadata, **(origin or {})})
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.schema.metadata[VERSION].decode()),
        metadata={
            "dagster/row_count": table.num_rows,
            **(metadata or {}),
            "preview": markdown(table, preview),
            "config_fingerprint": settings.fingerprint,
        },
        check_results=[
            check_result(finding) for finding in one_a_rule([well_formed(spec, table), *findings] if findings else [])
        ],
    )


def plot(figure: Figure, shown: str) -> dg.MarkdownMetadataValue:
    """A figure of the shards that ``shown`` tells of (see ``covers``), for an asset's metadata."""
    return dg.MetadataValue.md(as_markdown(figure, shown))


def covers(lake: Lake, shards: Iterable[str]) -> str:
    """What a plot of these shards covers: their places among the catalogue's shards, and how many seeds they have."""
    wanted, known = set(shards), lake.catalog_shards()
    places = {key: place for place, key in enumerate(known, start=1) if key in wanted}
    return coverage([*places.values()], len(known), lake.seeds_in(places))


def blocking(result: dg.MaterializeResult[pa.Table]) -> list[dg.AssetCheckResult]:
    """The result's findings for which nothing of it may be written."""
    return [found for found in result.check_results or () if not found.passed and found.severity == _ERROR]


def check_result(finding: Finding) -> dg.AssetCheckResult:
    """A finding as Dagster shows it: an error where wrong data would flow on, else a warning."""
    return dg.AssetCheckResult(
        check_name=finding.rule.name,
        passed=finding.passed,
        severity=_ERROR if finding.rule.blocks else dg.AssetCheckSeverity.WARN,
        description=finding.text,
        metadata=dict(finding.values),
    )


def stamped(table: pa.Table, settings: StarConfig, spec: AnyTable) -> pa.Table:
    """The table with its data version and the configuration that made it in its metadata: fingerprint, name and, in shards, settings.

    The final data set may be published, and the addresses of a team's servers are its own affair.
    """
    origin = {
        VERSION.decode(): content_hash(table),
        "config_fingerprint": settings.fingerprint,
        "config_name": settings.name,
    }
    if spec in SHARD_TABLES:
        origin["config_settings"] = json.dumps(settings.deciding, ensure_ascii=False, sort_keys=True)
    if spec.name == TASK_DOMAINS.name:
        origin[SIMILARITY] = str(settings.dataset.near_duplicate_similarity)
    return table.replace_schema_metadata(origin)


def markdown(table: pa.Table, columns: Sequence[str], limit: int = 8) -> dg.MarkdownMetadataValue:
    """The first rows as a Markdown table; long texts are cut, line breaks shown as spaces."""
    rows = table.select(list(columns)).slice(0, limit).to_pylist()
    told = markdown_table(columns, ([_cell(row[name]) for name in columns] for row in rows))
    return dg.MetadataValue.md(
        told + (f"\n… and {table.num_rows - limit:,} more rows" if table.num_rows > limit else "")
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value)[: 20 * _CELL].split())
    return inline(text if len(text) <= _CELL else f"{text[:_CELL]}…")


def counts(values: Iterable[object]) -> dict[str, int]:
    """How often each value occurs, most frequent first; None is left out."""
    found: dict[str, int] = {}
    for value in values:
        if value is not None:
            found[str(value)] = found.get(str(value), 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
