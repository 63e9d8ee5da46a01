"""How much memory does it take? The peak of an ingest and of each export, in processes of their own, at three sizes.

`python benchmarks/memory.py --rows 1000000` measures at a quarter, at half and at all of the rows: what is bounded
hardly grows, and stays under the bar whatever the size.
"""

from benchmarks.export import DATASETS, ours, prepare
from benchmarks.generate import generate
from benchmarks.ingest_new import into_new_lake
from benchmarks.measure import gigabytes, in_process, parser, scratch

__all__ = ["main"]

BAR = 2 << 30


def main() -> None:
    """Print the peaks on generated data."""
    options = parser(main.__doc__).parse_args()
    sizes = [options.rows // 4, options.rows // 2, options.rows]
    print(f"\nmemory: peak of a process, bar: at most {gigabytes(BAR)}")
    print(f"  {'rows':<20}" + "".join(f"{size:>14,}" for size in sizes))
    peaks: dict[str, list[int]] = {name: [] for name in ("ingest", *(f"export {dataset}" for dataset in DATASETS))}
    for size in sizes:
        files = generate(size, data=options.data)
        with scratch(options.data) as folder:
            peaks["ingest"].append(in_process(into_new_lake, [files.evidence, folder / "alone"])[1])
            in_process(prepare, [files.evidence, files.scores, files.tasks, folder])
            for dataset in DATASETS:
                peaks[f"export {dataset}"].append(in_process(ours, [folder, dataset, folder / dataset])[1])
    for name, each in peaks.items():
        met = "met" if max(each) <= BAR else "MISSED"
        print(f"  {name:<20}" + "".join(f"{gigabytes(peak):>14}" for peak in each) + f"   {met}")


if __name__ == "__main__":
    main()
