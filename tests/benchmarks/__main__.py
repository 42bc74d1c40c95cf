"""`make bench`, or `python tests/benchmarks [part ...]`: measure, print tables, keep them as JSON and as text.

The absolute numbers are this machine's at this hour. What may be quoted are the ratios: contestants take turns in one
process, and each round gives one ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import explorer
import faults
import forecast
import gpu
import machinery
import memory
import numpy as np
import palette
import peers
import precision
import probing
import processes
import repeat
import samples
import steps
import torch
import worlds
from timing import machine

import book
from isonb import disk, places

PARTS: dict[str, Callable[..., Iterable[dict[str, Any]]]] = {
    "steps": steps.run,
    "large": steps.large,
    "compiled": steps.compiled,
    "curves": steps.curves,
    "profile": steps.profile,
    "peers": peers.run,
    "processes": processes.run,
    "memory": memory.run,
    "probing": probing.run,
    "solvers": probing.solvers,
    "palette": palette.run,
    "palette-steps": palette.training_steps,
    "equivariance": palette.equivariance,
    "forecast": forecast.run,
    "machinery": machinery.run,
    "repeat": repeat.run,
    "precision": precision.run,
    "worlds": worlds.run,
    "faults": faults.run,
    "book": book.run,
    "explorer": explorer.run,
    "gpu": gpu.run,
    "samples": samples.run,
}
IN_TURNS = ("steps", "large", "compiled", "peers", "processes", "palette-steps", "explorer", "samples")


def main() -> None:
    """Run the chosen parts; each is written as soon as it is done."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all unless told")
    parser.add_argument("--threads", type=int, default=0, help="threads of each process; 1 suits a machine in use")
    parser.add_argument("--rounds", type=int, default=5, help="each gives one ratio")
    parser.add_argument("--repeats", type=int, default=4, help="steps of each contestant in a round")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="of the part gpu; cpu tries its steps"
    )
    parser.add_argument(
        "--seconds", type=float, default=gpu.SECONDS, help="of the part gpu, after which no network is begun"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"there is no part called {', '.join(sorted(unknown))}")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
        os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    if "gpu" in chosen.parts:
        sys.exit(_gpu(chosen.device, chosen.seconds))
    for part in chosen.parts or [part for part in PARTS if part != "gpu"]:
        options = {"rounds": chosen.rounds, "repeats": chosen.repeats} if part in IN_TURNS else {}
        print(write(part, PARTS[part](**options)), flush=True)


def _gpu(device: str, seconds: float) -> int:
    """Check and measure a GPU; 1 where a check fails. Without one nothing is kept, nor of a trial on a CPU."""
    rows: list[dict[str, Any]] = []
    if device == "cpu" or not torch.cuda.is_available():
        rows += gpu.run(device, seconds)
        print("\n".join(_of_gpu(rows, {})), flush=True)
    else:
        print(write("gpu", (rows.append(row) or row for row in gpu.run(device, seconds))), flush=True)
    return int(not all(row.get("holds", True) for row in rows))


def write(part: str, rows: Iterable[dict[str, Any]]) -> str:
    """Measure row by row and keep what there is after each; returns the table."""
    kept = {"machine": machine(), "seconds": 0.0, "rows": []}
    started, text = time.perf_counter(), ""
    for row in rows:
        kept["rows"].append(row)
        kept["seconds"] = time.perf_counter() - started
        text = "\n".join(as_text(part, kept)) + "\n"
        folder = places.results_folder("benchmarks")
        disk.write_atomically(folder / f"{part}.json", (json.dumps(kept, indent=1) + "\n").encode())
        disk.write_atomically(folder / f"{part}.txt", text.encode())
    return text


def as_text(part: str, kept: dict[str, Any]) -> Iterator[str]:
    """The part's table below a description of the machine."""
    about = kept["machine"]
    units = " ".join(name for name in ("amx", "avx512_bf16") if about[name]) or "no bfloat16 units"
    yield f"{part}: {kept['seconds']:.0f} s on {about['processor']}, {about['cores']} cores, {units},"
    yield f"{about['threads']} threads, torch {about['torch']}, Python {about['python']}, load {about['load']:.1f};"
    rates = [f"{about[name + '_rate'] / 1e9:.0f} {name}" for name in ("float32", "bfloat16")]
    yield f"giga multiply-accumulates a second of a large matrix product: {' and '.join(rates)}."
    yield ""
    yield from TEXTS[part](kept["rows"], about)


def ratio(value: dict[str, float]) -> str:
    """The median of the rounds' ratios, then the least and the greatest, then that of processor time."""
    cpu = f", cpu {value['processor_time']:.2f}" if "processor_time" in value else ""
    return f"{value['median']:.2f} ({value['least']:.2f} to {value['greatest']:.2f}{cpu})"


def _steps(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"{row['block']}, depth {row['depth']}, batch {row['batch']}: {row['steps']} timed steps"
        for name, value in row["speed_up"].items():
            apart = f"losses at most {row['loss_difference'][name]:.1e} nats apart"
            yield f"  {name:<9} {row['images_per_second'][name]:6.1f} images/s, {ratio(value)} times plain; {apart}"
        yield f"  plain     {row['images_per_second']['plain']:6.1f} images/s"


def _compiled(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"{row['block']}, depth {row['depth']}, batch {row['batch']}: {ratio(row['speed_up'])} times eager"
        yield f"  {row['first_step_seconds']:.0f} s to the end of the first step"


def _curves(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        ours, plain = row["losses"]["auto"], row["losses"]["plain"]
        yield f"{row['block']}, depth {row['depth']}, batch {row['batch']}: {len(ours)} steps"
        yield f"  from {ours[0]:.4f} to {ours[-1]:.4f} nats; plain to {plain[-1]:.4f}"
        apart, moves = np.abs(np.subtract(ours, plain)).max(), np.median(np.abs(np.diff(plain)))
        yield f"  at most {apart:.1e} apart; from batch to batch a loss moves {moves:.1e}"


def _profile(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"{row['block']}, depth {row['depth']}: {row['share_of_rate']:.0%} of the measured product rate"
        yield "  " + ", ".join(f"{name} {share:.0%}" for name, share in row["shares"].items())


def _peers(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        if "skipped" in row:
            yield row["skipped"]
            continue
        heads = f", heads {row['heads']}" if row["block"] == "transformer" else ""
        yield f"{row['library']}, {row['block']}{heads}, depth {row['depth']}, batch {row['batch']}"
        for whose in ("peer", "ours"):
            channels, values = row["outputs"][whose]
            yield (
                f"  {whose}: {row['parameters'][whose]} parameters, {row['parameters_per_block'][whose]} a block; "
                f"a position is predicted as {channels} x {values} values"
            )
        for name, value in row["speed_up"].items():
            yield f"  {name:<14} {row['images_per_second'][name]:6.1f} images/s, {ratio(value)} times the peer"
        yield f"  peer           {row['images_per_second']['peer']:6.1f} images/s"


def _processes(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"{row['block']}, depth {row['depth']}, global batch {row['batch']}, {row['processes']} processes"
        yield f"  efficiency {ratio(row['efficiency'])}; best round against best {row['efficiency_best_rounds']:.2f}"
        yield f"  {row['efficiency_processor_time']:.2f} in processor time"
        yield f"  {row['efficiency_apart']:.2f} by the clock, where two train at once and share nothing"
        yield f"  losses at most {row['loss_difference']:.1e} nats from those of one process"


def _memory(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["batch"]), []).append(row)
    for (kind, batch), found in groups.items():
        x, y = (np.log([row[name] for row in found]) for name in ("positions", "peak_bytes"))
        slope = f"{np.polyfit(x, y, 1)[0]:.2f}" if len(found) > 1 else "unknown"
        sizes = ", ".join(f"{row['peak_bytes'] / 2**20:.0f} MiB at {row['positions']}" for row in found)
        yield f"{kind}, batch {batch}: {sizes} positions; slope of the logarithms {slope}"


def _forecast(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        predicted, measured = row["predicted_seconds"], row["measured_seconds"]
        yield f"{row['block']}, depth {row['depth']}, batch {row['batch']}: {row['images']} images"
        yield f"  predicted {predicted:.0f} s, took {measured:.0f} s: {predicted / measured - 1:+.0%}"


def _machinery(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"Seconds a cell, of {row['cells']} tiny cells one after another, by the clock and of processor time:"
        for way, seconds in (*row["seconds_per_cell"].items(), ("added", row["added"])):
            yield f"  {way:<7} {seconds['clock']:6.1f} {seconds['processor']:6.1f}"


def _probing(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        seconds, passes = row["seconds"], row["passes"]
        yield f"{row['block']}, depth {row['depth']}, {row['images']} images"
        yield f"  {passes['ours']} passes through the network, the paper's procedure {passes['paper']}:"
        times = {name: value["paper"] / value["ours"] for name, value in (("many", passes), ("long", seconds))}
        yield f"  {times['many']:.0f} times as many, {times['long']:.0f} times as long"
        for layer, (ours, paper) in enumerate(zip(*row["accuracies"].values(), strict=True)):
            yield f"  layer {layer}: {ours:.1%}, the paper's procedure {paper:.1%}, of {row['test_images']} test images"


def _solvers(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        if "skipped" in row:
            yield row["skipped"]
            continue
        yield f"{row['block']}, depth {row['depth']}, {row['train_images']} training images of {row['data']}"
        for layer, accuracies in enumerate(zip(*row["accuracies"].values(), strict=True)):
            adam, lbfgs, plain = (f"{accuracy:.1%}" for accuracy in accuracies)
            yield (
                f"  layer {layer}: Adam {adam}, L-BFGS {lbfgs}, Adam without whitening {plain}, of "
                f"{row['test_images']} test images"
            )


def _palette(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"{row['colours']} colours, {row['test_images']} test images of {row['data']}: {row['psnr']:.1f} dB,"
        yield f"  {row['colour_error']:.1f} levels; {row['tokens']} tokens instead of {row['sub_pixels']} sub-pixels"


def _palette_steps(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        objective = "autoregressive" if row["is_causal"] else "BERT"
        share = row["peak_bytes"]["palette"] / row["peak_bytes"]["pix2vec"]
        yield f"{row['block']}, depth {row['depth']}, {objective}, batch {row['batch']}: with the palette"
        yield f"  {ratio(row['speed_up'])} times as fast as with pix2vec, in {share:.2f} of the memory"


def _equivariance(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"{row['block']} under a {row['change']}: relative error {row['error']:.1e}"


def _repeat(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        if "skipped" in row:
            yield row["skipped"]
            continue
        different = ", ".join(row["different"]) or "none differs"
        yield f"{row['run_id']} (made on {row['device']}): {row['numbers']} entries and {row['arrays']} arrays"
        yield f"  run again; {different}; the test loss differs by {row['test_loss_difference']:.1e}"


def _precision(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        (exact, rounded), (right, right_rounded) = (row[name].values() for name in ("validation_loss", "accuracy"))
        yield f"{row['block']}, depth {row['depth']}, {row['encoding']}, {row['train_images']} images, {row['device']}"
        yield f"  float32: {exact:.4f} nats, {right:.1%}; bfloat16: {rounded:.4f} nats, {right_rounded:.1%}"
        seeds = row["seeds"]
        if seeds["count"] > 1:
            yield (
                f"  bfloat16 changes the loss by {rounded - exact:+.4f} nats and the accuracy by "
                f"{100 * (right_rounded - right):+.1f} points; standard deviation over {seeds['count']} seeds: "
                f"{seeds['validation_loss']:.4f} nats, {100 * seeds['accuracy']:.1f} points"
            )


def _worlds(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        seeds = ", ".join(f"{number} of size {size}" for size, number in row["seeds"].items())
        yield f"{row['worlds']} worlds, {row['world']}; seeds: {seeds}"
        for claim, counts in row["verdicts"].items():
            shares = (f"{verdict} {count / row['worlds']:.1%}" for verdict, count in counts.items())
            yield f"  {claim:<9} {', '.join(shares)}"


def _faults(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        yield f"{row['kind']:<34} {row['tried']} tried, {row['noticed']} noticed, the others without an effect"


def _explorer(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        clock, processor = row["milliseconds"], row["processor_milliseconds"]
        for name, how in (("kept", "with its figure kept"), ("anew", "with a new figure")):
            yield f"a step {how}: {clock[name]:.0f} ms, of processor time {processor[name]:.0f} ms"
        yield f"  {ratio(row['speed_up'])} times as fast"


def _book(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        clock, processor = row["ratio"]["seconds"], row["ratio"]["processor_seconds"]
        yield f"{row['build']:<20} {row['seconds']:.0f} s, of processor time {row['processor_seconds']:.0f} s; ratios"
        yield f"  {clock:.2f} and {processor:.2f}"


def _samples(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        apart = f"outputs at most {row['difference']:.0e} of the largest apart"
        yield f"{row['block']}, depth {row['depth']}, {row['images']} images: {ratio(row['speed_up'])} times as fast as"
        yield f"  a whole pass for each pixel; {apart}"


def _of_gpu(rows: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        if "skipped" in row:
            yield row["skipped"]
        elif "rate" in row:
            yield f"{row['name']}: {row['rate'] / 1e12:.3g} tera operations a second of a large product"
        elif "check" in row:
            verdict = "holds" if row["holds"] else "FAILS"
            yield f"  {verdict}: {row['check']}: {row['found']:.2g}, at most {row['bound']:g}"
        else:
            rate = next(one["rate"] for one in rows if "rate" in one)
            speed, share = row["operations_per_second"], row["operations_per_second"] / rate
            yield f"{row['network']}, depth {row['depth']}, batch {row['batch']}: {speed / 1e12:.3g} tera operations"
            yield f"  a second, {share:.0%} of that rate; first step after {row['first_step_seconds']:.0f} s"
            if row["peak_bytes"]:
                yield f"  {row['peak_bytes'] / 2**20:.0f} MiB at most"
            for name, images in row["images_per_second"].items():
                times = row["images_per_second"]["ours"] / images
                yield f"  {name:<26} {images:10,.0f} images/s; ours is {times:.1f} times as fast"


TEXTS = {
    "steps": _steps,
    "large": _steps,
    "compiled": _compiled,
    "curves": _curves,
    "profile": _profile,
    "peers": _peers,
    "processes": _processes,
    "memory": _memory,
    "probing": _probing,
    "solvers": _solvers,
    "palette": _palette,
    "palette-steps": _palette_steps,
    "equivariance": _equivariance,
    "forecast": _forecast,
    "machinery": _machinery,
    "repeat": _repeat,
    "precision": _precision,
    "worlds": _worlds,
    "faults": _faults,
    "book": _book,
    "explorer": _explorer,
    "gpu": _of_gpu,
    "samples": _samples,
}

if __name__ == "__main__":
    main()
