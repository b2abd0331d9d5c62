"""Training: stages, resuming bit for bit, several processes, checkpoints that survive, what is said when it fails."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import run_command
from support.networks import MODERN_SMALL, PAPER_SMALL

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import CachedTargets, Sources, fit, load, load_config, resume
from sln.errors import ConfigError, RunError, TrainingError, WeightsError
from sln.network.sln import build, load_model
from sln.runs import Run, list_runs
from sln.training.fit import check
from sln.training.run_settings import with_categories
from sln.training.trainer import Trainer
from sln.weights.files import SCHEMA, read_checkpoint, save_atomically, write_safetensors
from sln.weights.pretrained import load_backbone

SMALL = (
    "data.size=64", *MODERN_SMALL, "train.batch=4", "train.log_every=2", "proposals.after_nms=20",
    "predict.max_detections=8",
)  # fmt: skip
CHANGING = ("train.stages=[{name='joint', steps=3, batch=2, prompts=0}, {name='joint', steps=5, lr=1e-3, prompts=3}]",)
STAGED = ("train.stages=[{name='glm'}, {name='rpn'}, {name='ilm'}, {name='joint'}]",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    build_targets(read_cocoa(write_cocoa(folder, 10, seed=4, size=(64, 64), instances=(2, 4))), folder / "t.h5")
    return folder


def sources(folder, **more):
    return Sources(folder / "t.h5", (folder,), **more)


def config(*settings, preset="tiny"):
    return load_config(preset, settings=[*SMALL, *settings], environment={})


def weights(run):
    return read_checkpoint(run.last)["model"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("settings, stop", [((), 3), ((*STAGED, "train.workers=2"), 4), (CHANGING, 3), (CHANGING, 4)])
def test_a_resumed_run_equals_an_uninterrupted_run(folder, tmp_path, settings, stop):
    chosen = config("train.steps=8", "train.save_every=3", "train.log_every=1", *settings)
    whole = fit(chosen, sources(folder), tmp_path / "whole", device="cpu")
    fit(chosen, sources(folder), tmp_path / "parts", device="cpu", stop_at=stop)
    parts = resume(tmp_path / "parts", device="cpu")
    assert same(weights(whole), weights(parts))
    assert same(read_checkpoint(whole.best)["model"], read_checkpoint(parts.best)["model"])

    def told(run):
        return [{k: v for k, v in row.items() if k != "images_per_s"} for row in run.metrics()]

    later = [row for row in told(whole) if row["step"] > stop]
    assert later == [row for row in told(parts) if row["step"] > stop] and len(later) > 2
    assert (whole.path / "metrics.csv").read_text().startswith("step,stage,epoch,lr,total,losses.global_layering")


def test_the_stages_of_the_paper(folder, tmp_path):
    small = (*PAPER_SMALL, "train.steps=8", "train.lr=0.01")
    run = fit(config(*small, preset="paper"), sources(folder), tmp_path / "run", device="cpu")
    rows = run.metrics()
    assert [row["stage"] for row in rows] == ["glm", "rpn", "ilm", "joint"]
    assert [sorted(row["losses"]) for row in rows[:3]] == [
        ["global_layering"], ["box", "objectness"], ["instance_layering", "sem_dist"]
    ]  # fmt: skip
    assert len(rows[3]["losses"]) == 5 and (run.overlays / "step_000008.png").exists()


def test_validation_chooses_the_best(folder, tmp_path):
    chosen = config("train.steps=4", "train.save_every=2")
    run = fit(chosen, sources(folder, val=folder / "t.h5"), tmp_path / "run", device="cpu")
    scored = [row["ap"] for row in run.metrics()]
    assert len(scored) == 2 and all(0 <= ap <= 1 for ap in scored)
    assert read_checkpoint(run.best)["step"] == run.metrics()[scored.index(max(scored))]["step"]
    assert resume(run.path, device="cpu").best.stat().st_size == run.best.stat().st_size  # finished: nothing to do


def test_the_run_directory(folder, tmp_path):
    chosen = config("train.steps=2")
    run = fit(chosen, sources(folder), tmp_path / "runs" / "one", device="cpu")
    assert Run(run.path).config() == with_categories(chosen, folder / "t.h5") != chosen
    environment = run.environment()
    assert environment["train"] == str(folder / "t.h5") and len(environment["train_digest"]) == 64
    assert environment["packages"]["torch"]
    (row,) = list_runs(tmp_path / "runs")
    assert row["step"] == row["steps"] == 2 and list_runs(run.path)[0]["run"] == row["run"]
    with pytest.raises(RunError, match="never reused"):
        fit(chosen, sources(folder), run.path, device="cpu")
    with pytest.raises(RunError, match="nothing to resume"):
        resume(tmp_path / "runs")
    assert same(weights(resume(run.path, device="cpu")), weights(run))  # finished: nothing changes


def test_a_run_does_not_go_on_with_another_cache(folder, tmp_path):
    copy = tmp_path / "data"
    scenes = write_cocoa(copy, 4, seed=1, size=(64, 64), instances=(2, 3))
    build_targets(read_cocoa(scenes), copy / "t.h5")
    fit(config("train.steps=4"), sources(copy), tmp_path / "run", device="cpu", stop_at=2)
    build_targets(read_cocoa(write_cocoa(copy, 4, seed=2, size=(64, 64), force=True)), copy / "t.h5", force=True)
    with pytest.raises(ConfigError, match="not the one"):
        resume(tmp_path / "run", device="cpu")


@pytest.mark.slow
def test_sigterm_and_ctrl_c_leave_a_checkpoint_to_go_on_from(folder, tmp_path, run_process):
    settings = [part for setting in (*SMALL, "train.steps=12") for part in ("--set", setting)]
    run = tmp_path / "run"
    command = ["sln", "fit", folder / "t.h5", "--preset", "tiny", "--device", "cpu"]
    # equal bits need equal thread counts, so all of them are processes of the same environment
    assert run_process(*command, *settings, "--run", tmp_path / "whole").returncode == 0
    go_on = ["sln", "fit", "--resume", run, "--device", "cpu"]
    for number, start in (
        (signal.SIGTERM, [*command, *settings, "--set", "train.workers=1", "--run", run]),
        (signal.SIGINT, go_on),
    ):
        before = len(Run(run).metrics())
        with run_process.start(*start, group=True) as process:
            while len(Run(run).metrics()) <= before and process.poll() is None:
                time.sleep(0.005)
            os.killpg(process.pid, number)  # as a terminal and batch systems do: processes that load photos as well
            messages = process.communicate()[1]
        assert process.returncode == 130 and "--resume" in messages, messages
    assert 0 < read_checkpoint(run / "last.pt")["step"] < 12
    process = run_process(*go_on, "--json")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["last"]["step"] == 12
    assert same(weights(Run(run)), weights(Run(tmp_path / "whole")))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4])
def test_kill_9_never_loses_a_checkpoint(tmp_path, kills, run_process):
    """A process that does nothing but save is killed at random; what is on disk is always whole."""
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from sln.weights.files import SCHEMA, save_atomically\n"
        "path = Path(sys.argv[1])\n"
        "for step in range(10**9):\n"
        "    model = {'w': torch.full((300_000,), step)}\n"
        "    save_atomically({'schema': SCHEMA, 'step': step, 'config': {}, 'model': model}, path)\n"
        "    print(step, flush=True)\n"
    )
    (tmp_path / "saves").mkdir()
    path, script = tmp_path / "saves" / "last.pt", tmp_path / "save.py"
    script.write_text(code)
    rng = np.random.default_rng(0)
    for _ in range(kills):
        with run_process.start(script, path) as process:
            process.stdout.readline()
            time.sleep(float(rng.random()) * 0.05)
            process.kill()
            saved = [0, *(int(line) for line in process.stdout.read().split())]
        content = read_checkpoint(path)
        assert content["step"] >= saved[-1] and (content["model"]["w"] == content["step"]).all()
        others = [p.name for p in path.parent.iterdir() if p.name != "last.pt"]
        assert all(name.startswith(".last.pt.") and name.endswith(".part") for name in others)
    save_atomically({"schema": "x"}, path)
    assert path.exists()


GRADIENTS = """
import sys, torch
from pathlib import Path
from sln import CachedTargets, load_config
from sln.data.dataset import Batch, batches
from sln.training.trainer import Trainer
from sln.runtime.distributed import World
world = World.join(torch.device("cpu"))
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
config = load_config("tiny", settings=sys.argv[3:], environment={})
data = CachedTargets(folder / "t.h5", [folder], config.data)
trainer = Trainer(config, data, device=torch.device("cpu"), world=world)
for module in trainer.model.modules():  # running statistics are those of one process: freeze them
    if isinstance(module, torch.nn.BatchNorm2d):
        module.eval()
trainer.backward(next(batches(trainer.data, trainer.plan(1), 0)))
if world.is_main:
    torch.save({name: p.grad for name, p in trainer.model.named_parameters()}, out)
"""


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(folder, tmp_path, run_process):
    settings = [*SMALL, "data.crop=1", "data.jitter=0"]
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    (tmp_path / "step.py").write_text(GRADIENTS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone = run_process(tmp_path / "step.py", folder, one, *settings)
    assert alone.returncode == 0, alone.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    both = subprocess.run(
        [*torchrun, tmp_path / "step.py", folder, two, *settings], capture_output=True, text=True, env=environment
    )
    assert both.returncode == 0, both.stderr
    expected, found = torch.load(one), torch.load(two)
    assert all(grad is not None for grad in found.values())
    error = sum(float((found[n] - g).square().sum()) for n, g in expected.items()) ** 0.5
    assert error / sum(float(g.square().sum()) for g in expected.values()) ** 0.5 < 1e-5
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max())), name


def test_accumulated_parts_come_close_to_the_whole_batch(folder):
    """Not equal: normalisation sees one part at a time."""
    norms = []
    for parts in (1, 2):
        chosen = config(f"train.accumulate={parts}")
        data = CachedTargets(folder / "t.h5", [folder], chosen.data)
        norms.append(Trainer(chosen, data, device=torch.device("cpu")).time_batch()["sem_dist"])
    assert norms[0] == pytest.approx(norms[1], rel=0.2) and norms[0] != norms[1]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(folder, tmp_path):
    chosen = config("train.steps=8", "train.save_every=2", "train.log_every=1")
    data = CachedTargets(folder / "t.h5", [folder], chosen.data)
    run = Run.create(tmp_path / "run", chosen, {})
    trainer = Trainer(chosen, data, device=torch.device("cpu"), run=run)
    trainer.train(4)
    before = weights(run)
    with torch.no_grad():
        trainer.model.glm.classify.bias[0] = float("nan")
    with pytest.raises(TrainingError) as error:
        trainer.train()
    assert "not finite" in str(error.value) and "last.pt" in str(error.value)
    ids = [str(data.images[i].image_id) for i, epoch in trainer.photos(4)]
    assert ids and str(error.value).split("images ")[1].split("\n")[0] == ", ".join(ids)
    assert same(before, weights(run))


def test_a_damaged_image_file_leaves_a_checkpoint(tmp_path):
    build_targets(read_cocoa(write_cocoa(tmp_path, 4, size=(64, 64), instances=(2, 3))), tmp_path / "t.h5")
    photo = tmp_path / "val2014" / "COCO_val2014_000000000003.jpg"
    photo.write_bytes(photo.read_bytes()[:800])
    with pytest.raises(Exception, match="damaged"):
        fit(config("train.steps=4", "train.batch=1"), sources(tmp_path), tmp_path / "run", device="cpu")
    assert read_checkpoint(tmp_path / "run" / "last.pt")["step"] < 4


def test_out_of_memory_suggests_smaller_settings(folder, tmp_path, monkeypatch):
    chosen = config("train.steps=2")
    data = CachedTargets(folder / "t.h5", [folder], chosen.data)
    trainer = Trainer(chosen, data, device=torch.device("cpu"))

    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.model, "forward", full)
    with pytest.raises(TrainingError, match=r"4 images of 64 px at a time(.|\n)*train.accumulate=2"):
        trainer.train()


def test_check_tries_every_stage(folder):
    report = check(config("train.steps=8", *STAGED), sources(folder), device="cpu")
    assert [stage["stage"] for stage in report["stages"]] == ["glm", "rpn", "ilm", "joint"]
    assert report["images"] == 10 and report["steps_per_epoch"] == 2.5 and report["hours"] > 0


def test_an_exported_model_predicts_the_same(folder, tmp_path):
    run = fit(config("train.steps=2"), sources(folder), tmp_path / "run", device="cpu")
    write_safetensors(load_model(run.path), tmp_path / "m.safetensors")
    photo = folder / "val2014" / "COCO_val2014_000000000001.jpg"
    one, two = (load(path, "cpu").predict(photo) for path in (run.best, tmp_path / "m.safetensors"))
    assert len(one) and np.array_equal(one.probabilities, two.probabilities)
    assert load_model(tmp_path / "m.safetensors").config == load_model(run.best).config


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "missing", "shapes"])
def test_damaged_and_foreign_checkpoints_are_refused(tmp_path, damage):
    path = tmp_path / "m.pt"
    chosen = config()
    content = {
        "schema": SCHEMA,
        "config": chosen.model_dump(mode="json"),
        "model": build(chosen).state_dict(),
    }
    if damage == "missing":
        del content["model"]["glm.classify.bias"]
    if damage == "shapes":
        content["model"]["glm.classify.bias"] = torch.zeros(9)
    torch.save(content if damage != "foreign" else {"model": {}}, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    if damage == "text":
        path.write_text("hello")
    messages = {
        "missing": "1 missing",
        "shapes": r"glm.classify.bias is \[9\], expected \[5\]",
        "foreign": "not a checkpoint",
    }
    with pytest.raises(WeightsError, match=messages.get(damage, "not a checkpoint that can be read")):
        load_model(path)


def test_pretrained_encoders_are_checked_name_by_name(tmp_path):
    from torchvision.models import resnet18
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    plain, detector = resnet18(), maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(plain.state_dict(), tmp_path / "18.pt")
    torch.save({"model": detector.state_dict()}, tmp_path / "50.pt")
    one = build(config("encoder.depth=18"))
    assert "18.pt" in load_backbone(one.encoder.backbone, str(tmp_path / "18.pt"), 18)
    assert torch.equal(one.encoder.backbone.layer1[0].conv1.weight, plain.layer1[0].conv1.weight)
    two = build(config("encoder.depth=50", f"encoder.weights={tmp_path / '50.pt'}"))
    assert "Mask R-CNN" in load_backbone(two.encoder.backbone, str(tmp_path / "50.pt"), 50)
    assert torch.equal(two.encoder.backbone.layer4[0].bn1.weight, detector.backbone.body.layer4[0].bn1.weight)
    with pytest.raises(WeightsError, match=r"missing|unknown"):
        load_backbone(one.encoder.backbone, str(tmp_path / "50.pt"), 18)


def test_a_few_steps_on_real_images(real, tmp_path):
    cache = tmp_path / "real.h5"
    build_targets(read_cocoa(real), cache)
    run = fit(config("train.steps=3"), Sources(cache, (real.parent,)), tmp_path / "run", device="cpu")
    predictor = load(run.last, "cpu")
    for photo in sorted(real.parent.rglob("*.jpg")):
        found = predictor.predict(photo)
        with Image.open(photo) as image:
            assert found.size == (image.height, image.width)
        assert found.levels.shape == (len(found), *found.size) and len(found) > 0


@pytest.mark.slow
def test_interrupted_validation_is_repeated_on_resume(folder, tmp_path, monkeypatch):
    chosen = config("train.steps=6", "train.save_every=2")
    whole = fit(chosen, sources(folder), tmp_path / "whole", device="cpu")
    data = CachedTargets(folder / "t.h5", [folder], chosen.data)
    run = Run.create(tmp_path / "parts", chosen, sources(folder).to_dict())

    def fail(model, path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(chosen, data, device=torch.device("cpu"), run=run, draw=fail).train()
    assert read_checkpoint(run.last)["step"] == 2 and not run.best.exists() and not run.metrics()
    assert load_model(run.path).config == chosen  # the last one, while there is no best
    parts = resume(run.path, device="cpu")
    assert same(weights(whole), weights(parts)) and [row["step"] for row in parts.metrics()] == [2, 4, 6]
    assert same(read_checkpoint(whole.best)["model"], read_checkpoint(parts.best)["model"])


@pytest.mark.slow
def test_a_failed_step_is_not_saved(folder, tmp_path, monkeypatch):
    chosen = config("train.steps=6", "train.save_every=2")
    whole = fit(chosen, sources(folder), tmp_path / "whole", device="cpu")
    data = CachedTargets(folder / "t.h5", [folder], chosen.data)
    run = Run.create(tmp_path / "parts", chosen, sources(folder).to_dict())
    trainer = Trainer(chosen, data, device=torch.device("cpu"), run=run)
    trainer.train(3)
    step = trainer.optimizer.step
    monkeypatch.setattr(trainer.optimizer, "step", lambda: (step(), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert read_checkpoint(run.last)["step"] == 3
    assert same(weights(whole), weights(resume(run.path, device="cpu")))


def test_resuming_needs_no_pretrained_file_and_may_move_the_photos(folder, tmp_path):
    import shutil

    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "18.pt")
    photos = tmp_path / "photos"
    shutil.copytree(folder / "val2014", photos)
    chosen = config("train.steps=2", "encoder.depth=18", f"encoder.weights={tmp_path / '18.pt'}")
    run = fit(chosen, Sources(folder / "t.h5", (photos,)), tmp_path / "run", device="cpu", stop_at=1)
    (tmp_path / "18.pt").unlink()
    photos.rename(tmp_path / "moved")
    process = resume(run.path, images=[tmp_path / "moved"], device="cpu")
    assert read_checkpoint(process.last)["step"] == 2


@pytest.mark.slow
def test_torchrun_trains_with_two_processes(folder, tmp_path):
    settings = [part for setting in SMALL for part in ("--set", setting)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command = ["amodal_cli.model", "--", "fit", folder / "t.h5", "--run", tmp_path / "run", "--preset", "tiny"]
    process = subprocess.run(
        [*torchrun, *command, "--steps", "3", "--device", "cpu", *settings, "--json"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["last"]["step"] == 3 and Run(tmp_path / "run").environment()["processes"] == 2
    assert (tmp_path / "run" / "report.html").exists()


def test_a_process_without_instances_does_not_change_the_mean(folder):
    """Its stand-in region counts for nothing."""
    from sln.network.build import build_roi_head

    for kind in ("sln", "arcnn-visible"):
        head = build_roi_head(32, 4, config(f"head.kind={kind}").head).eval()
        features, nothing = torch.randn(1, 32 + 24 + 4 * (kind == "sln"), 14, 14), torch.zeros(1, 5, 28, 28)
        some = torch.zeros(1, 5, 28, 28)
        some[:, 0] = 1
        alone = head.losses(head(features), some)
        both = head.losses(head(features.expand(2, -1, -1, -1)), torch.cat([some, nothing]))
        for name, loss in alone.items():
            assert float(both[name].detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
        assert not any(loss.detach().any() for loss in head.losses(head(features), nothing).values())


STOPPED = """
import os, signal, sys
from pathlib import Path
from sln import Sources, fit, load_config
folder, run = Path(sys.argv[1]), Path(sys.argv[2])
config = load_config("tiny", settings=sys.argv[3:], environment={})
done = 0

def stop_me(n):
    global done
    done += 1
    if os.environ["RANK"] == "1" and done == 3:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    fit(config, Sources(folder / "t.h5", (folder,)), run, device="cpu", on_step=stop_me)
except KeyboardInterrupt:
    print(f"rank {os.environ['RANK']} stopped after {done}", flush=True)
"""


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(folder, tmp_path):
    """Else the others would wait for it until their patience ends, three hours."""
    (tmp_path / "stopped.py").write_text(STOPPED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = subprocess.run(
        [*torchrun, tmp_path / "stopped.py", folder, tmp_path / "run", *SMALL, "train.steps=500"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout.count("stopped after 3") == 2, process.stdout + process.stderr
    assert read_checkpoint(tmp_path / "run" / "last.pt")["step"] == 3


def test_a_second_writer_is_refused(folder, tmp_path):
    from amodal_data.errors import InUseError

    fit(config("train.steps=4"), sources(folder), tmp_path / "run", device="cpu", stop_at=2)
    before = Run(tmp_path / "run").metrics()
    with Run(tmp_path / "run").writing(), pytest.raises(InUseError, match="the run run is being written"):
        resume(tmp_path / "run", device="cpu")
    assert Run(tmp_path / "run").metrics() == before
    assert resume(tmp_path / "run", device="cpu").metrics()[-1]["step"] == 4
    assert not (tmp_path / "run" / ".lock").exists()


def test_resuming_a_finished_run_changes_nothing(folder, tmp_path):
    messages = []
    run = fit(config("train.steps=2"), sources(folder), tmp_path / "run", device="cpu")
    before = run.last.read_bytes()
    resume(run.path, device="cpu", say=messages.append)
    assert "this run is finished" in messages[-1] and run.last.read_bytes() == before


def test_every_checkpoint_is_written_once(folder, tmp_path, monkeypatch):
    from sln.training import checkpoints

    written = []
    save = checkpoints.save_atomically
    monkeypatch.setattr(
        checkpoints, "save_atomically", lambda content, path: (written.append(path), save(content, path))
    )
    run = fit(config("train.steps=6", "train.save_every=2"), sources(folder), tmp_path / "run", device="cpu")
    assert written == [run.last] * 3 and run.best.exists()


@pytest.mark.parametrize("schema", ["sln/run/1", "sln/run/3", None])
def test_runs_of_earlier_versions_are_refused(tmp_path, schema):
    run = Run.create(tmp_path / "run", config(), {"train": "t.h5"})
    assert run.config() == config() and run.environment()["train"] == "t.h5"
    (run.path / "env.json").write_text(json.dumps(run.environment() | {"schema": schema}))
    run.last.touch()
    for read in (run.config, run.environment, lambda: resume(run.path, device="cpu")):
        with pytest.raises(RunError, match=r"earlier development version(.|\n)*train again"):
            read()
    (row,) = list_runs(run.path)
    assert "earlier development version" in row["problem"]


def test_a_signal_inside_a_step_stops_after_it_and_loses_nothing(folder, tmp_path):
    chosen = config("train.steps=6")
    whole = fit(chosen, sources(folder), tmp_path / "whole", device="cpu")
    data = CachedTargets(folder / "t.h5", [folder], chosen.data)
    run = Run.create(tmp_path / "parts", chosen, sources(folder).to_dict())
    trainer = Trainer(chosen, data, device=torch.device("cpu"), run=run)
    forward = trainer.model.forward

    def interrupted(*given):
        losses = forward(*given)
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses

    trainer.model.forward = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert read_checkpoint(run.last)["step"] == 4
    assert same(weights(whole), weights(resume(run.path, device="cpu")))


def test_a_full_disk_keeps_the_checkpoint_of_before(folder, tmp_path, monkeypatch):
    chosen = config("train.steps=4", "train.save_every=2")

    def full(self, data):
        self.failed = OSError(28, "No space left on device")
        raise self.failed

    run = fit(chosen, sources(folder), tmp_path / "run", device="cpu", stop_at=2)
    before = run.last.read_bytes()
    monkeypatch.setattr("sln.weights.files._WriteErrorRecorder.write", full)
    with pytest.raises(TrainingError, match=r"No space left on device(.|\n)*free some space, then resume=True"):
        resume(run.path, device="cpu")
    assert run.last.read_bytes() == before and not list(run.path.glob(".*.part"))


def test_unreadable_runs_are_listed_with_their_problem(folder, tmp_path):
    for name, metrics in (
        ("a", "[]\n"),
        ("b", "{\n"),
        ("c", '{"step": "x"}\n'),
        ("d", '{"step": 1, "ap": "\\u001b"}\n'),
    ):
        run = Run.create(tmp_path / name, config("train.steps=2"), {"train": "\x1b[31mred"})
        (run.path / "metrics.jsonl").write_text(metrics)
    Run.create(tmp_path / "e", config("train.steps=2"), {}).path.joinpath("env.json").write_text("[1]")
    rows = list_runs(tmp_path)
    assert len(rows) == 5 and sum(bool(row["problem"]) for row in rows) == 4
    process = run_command("sln", "runs", tmp_path)
    assert process.returncode == 0 and "\x1b" not in process.stdout


def test_leftovers_of_killed_saves_are_removed(folder, tmp_path):
    fit(config("train.steps=4"), sources(folder), tmp_path / "run", device="cpu", stop_at=2)
    for name in (".last.pt.01234567.part", ".best.pt.89abcdef.part"):
        (tmp_path / "run" / name).write_bytes(b"x")
    resume(tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run").glob(".*.part"))


@pytest.mark.slow
def test_a_running_mean_of_the_weights_is_kept_resumed_and_used(folder, tmp_path):
    chosen = config("train.steps=5", "train.ema=0.8", "train.save_every=2")
    whole = fit(chosen, sources(folder), tmp_path / "whole", device="cpu")
    fit(chosen, sources(folder), tmp_path / "parts", device="cpu", stop_at=3)
    parts = resume(tmp_path / "parts", device="cpu")
    one, two = (read_checkpoint(run.last) for run in (whole, parts))
    assert same(one["averaged"], two["averaged"]) and one["averaged_steps"] == two["averaged_steps"] == 5
    assert same(load_model(whole.last).state_dict(), one["averaged"]) and not same(one["averaged"], one["model"])

    data = CachedTargets(folder / "t.h5", [folder], chosen.data, chosen.train.seed)
    trainer = Trainer(with_categories(chosen, folder / "t.h5"), data, device=torch.device("cpu"))
    mean = None
    for _ in range(5):
        trainer.train(trainer.step + 1)
        own = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        mean = own if mean is None else {name: 0.8 * mean[name] + 0.2 * p for name, p in own.items()}
    kept = dict(trainer.averaged.module.named_parameters())
    assert all(torch.allclose(kept[name], value, atol=1e-6) for name, value in mean.items())
    torch.save(one | {"averaged_steps": "many"}, tmp_path / "whole" / "last.pt")
    with pytest.raises(WeightsError, match="averaged_steps is not a number"):
        trainer.resume(tmp_path / "whole" / "last.pt")
