"""Raw data in the real archives' own formats: drawn, or a pointer to the folder that holds it."""

from regroup.errors import RegroupError
from regroup.pipelines import pipeline_faults
from regroup.places import place_faults
from regroup.sources.make import make_source, unchanged_source
from regroup.sources.manifest import copy_manifest
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Make one source, unless its folder is used in place and has not changed."""
    names = {str(name): name for name in stage.params.made_sources}
    if stage.key not in names:
        raise RegroupError(f"sources: no source `{stage.key}` is made here; known: {', '.join(names)}")
    if faults := [*place_faults(stage.params.name), *pipeline_faults(stage.params)]:
        raise RegroupError("\n".join(map(str, faults)))
    name = names[stage.key]
    source, out = stage.params.sources[name], stage.layout.raw(name)
    apart = stage.layout.manifest(name)
    if same := unchanged_source(name, source.kind, out, root=source.root):
        print(f"{name}: {same.files:,} files in {same.root}, as {out} says")
        copy_manifest(out, apart)
        return
    with stage.tracked(source, stage.params.world, inputs=[], outputs=[out, apart]) as tracked:
        manifest = make_source(
            name,
            source.kind,
            out,
            root=source.root,
            url=source.url,
            keep_archives=source.keep_archives,
            world=stage.params.world,
        )
        copy_manifest(out, apart)
        tracked.log_metrics({"files": manifest.files, "bytes": manifest.bytes}, step=0)


if __name__ == "__main__":
    run(main)
