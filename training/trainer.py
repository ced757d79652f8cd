"""Training on one or many workers: plain torch.distributed, one process a device.

    batch -> parts -> loss, backward -> clip -> AdamW -> moving mean -> log, validate, save

Whatever the number of workers and of parts that a batch is worked on in, a step has the same
gradient: that of the whole batch. Order, augmentation, noise and time of the samples follow from
the seed and the step's number, so that weights, optimiser, moving mean and step are all there is to
a checkpoint, and a run that goes on from one ends as if it had never stopped: to the bit with as
many workers and threads on CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from training import optimise, parallel, policy_folder
from training.adapt import add_lora, freeze
from training.batch import Batch
from training.config import TrainConfig
from training.data.loader import Loader
from training.data.mixture import Mixer
from training.data.norm import NormStats
from training.data.sample import Source
from training.data.sources import order
from training.ema import Ema
from training.log import Log
from training.meter import Meter
from training.parts import pinned, split, summed, whole
from training.pi0 import checkpoint
from training.pi0.model import Pi0
from training.run_folder import POLICY
from training.saved import Saver
from training.tokeniser import Tokeniser
from training.validate import validate


class Trainer:
    """One worker's part of a run.

    Args:
        config: of the run.
        sources: of the configuration's, in its order, what is trained on.
        held_out: of the same, what is not; none of them if nothing is held out.
        stats: of each source, what it is normalised by.
        tokeniser: of instructions.
        folder: of the run, which every worker sees.
        device: of this worker.
        rank, world: this worker, and how many there are; of more than one, the default process
            group must be there.

    Raises:
        UserError: the configuration does not fit the sources or the weights to begin with.
    """

    def __init__(
        self,
        config: TrainConfig,
        sources: Sequence[Source],
        held_out: Sequence[Source],
        stats: Sequence[NormStats],
        tokeniser: Tokeniser,
        folder: str | Path,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ):
        self.config, self.device, self.rank, self.world = config, device, rank, world
        self.folder = Path(folder)
        self._sources, self._held_out, self._stats = list(sources), list(held_out), list(stats)
        self._words = tokeniser
        kinds = [source.normalise for source in config.sources]
        self._mixer = Mixer(
            sources, stats, kinds, tokeniser, config.model, config.seed, config.augment
        )
        self._saver = Saver(folder, config.keep, config.keep_every, device, rank, world)
        self.warnings: list[str] = []
        self.model = self._model()
        self.optimiser = optimise.adamw(self.model, config.optimiser)
        _begin(self.optimiser)
        self.ema = self._mean()
        self.step = self._saver.restore(self.state(), self.warnings.append)
        """Steps done."""
        if self.step == 0 and config.initial is not None:
            checkpoint.load_initial(parallel.bare(self.model), config.initial)
            self.ema = self._mean()

    def run(self) -> None:
        """Train to the configuration's last step; what is then in `folder` is complete.

        Raises:
            UserError: a source cannot be read, nothing can be written, or training diverged;
                the checkpoints so far are as they were.
        """
        config = self.config
        with self._log() as log, self._loader() as loader:
            meter = Meter(config, self.device, self.world)
            while self.step < config.steps:
                meter.waits()
                batch = next(loader).to(self.device)
                meter.works()
                loss, norm = self._step(batch)
                self.step += 1
                meter.add(loss, batch)
                last = self.step == config.steps
                if last or self.step % config.log_every == 0:
                    self._write(log, norm, meter)
                if self._held_out and (last or self.step % config.validate_every == 0):
                    with meter.apart():
                        self._validate(log)
                if last or self.step % config.save_every == 0:
                    optimise.check(norm, self.step)
                    self._saver.save(self.step, self.state())
                self._saver.check()
            self._saver.wait()
        self._export()

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint holds: no copies, so that what is loaded into them counts."""
        names = {p: name for name, p in parallel.bare(self.model).named_parameters()}
        state: dict[str, Tensor] = {f"weights.{name}": p.detach() for p, name in names.items()}
        for parameter, moments in self.optimiser.state.items():
            for key, value in moments.items():
                state[f"optimiser.{names[parameter]}.{key}"] = value
        means = {} if self.ema is None else self.ema.state_dict()
        return state | {f"mean.{name}": value for name, value in means.items()}

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step of the optimiser. Nothing in it waits for the device.

        Returns:
            This worker's part of the loss, and the norm of the gradient before it was clipped.
        """
        config = self.config
        optimise.set_rate(self.optimiser, optimise.rate(config.optimiser, config.steps, self.step))
        self.optimiser.zero_grad()
        terms = self._terms(batch)
        total = torch.zeros((), device=self.device)
        parts = list(split(batch, config.accumulate))
        for number, part in enumerate(parts, 1):
            with parallel.no_sync(self.model, number < len(parts)):
                with parallel.autocast(config, self.device):
                    errors = self.model(part)
                loss = summed(errors, part, config.loss) / terms
                # The mean over workers is taken of gradients; ours is a sum over them.
                (loss * self.world).backward()
                total += loss.detach()
        norm = optimise.clip(self.model, config.optimiser.clip)
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update()
        return total, norm

    def _write(self, log: Log | None, norm: Tensor, meter: Meter) -> None:
        gradient = optimise.check(norm, self.step)
        values = {"gradient_norm": gradient, "learning_rate": self.optimiser.param_groups[0]["lr"]}
        values = meter.read() | values
        if log is not None:
            log.write(self.step, values)

    def _validate(self, log: Log | None) -> None:
        """Of the moving mean of the weights, which is what will be used."""
        config, rank, world = self.config, self.rank, self.world
        configs, held_out, stats = config.sources, self._held_out, self._stats
        kinds = [source.normalise for source in configs]
        mixer = Mixer(held_out, stats, kinds, self._words, config.model, config.seed, False)
        mean = nullcontext() if self.ema is None else self.ema.swapped()
        with mean, parallel.autocast(config, self.device):
            samples, device = config.validate_samples, self.device
            found = validate(
                self.model, held_out, configs, stats, mixer, samples, device, rank, world
            )
        if log is not None:
            log.write(self.step, found)

    def _export(self) -> None:
        """Write the policy: what the moving mean has of the weights, and the others."""
        means = {} if self.ema is None else self.ema.state_dict()
        parameters = parallel.bare(self.model).named_parameters()
        own = {name: parameter.detach() for name, parameter in parameters}
        weights = whole(own | means, self.rank == 0)
        if self.rank == 0:
            sources, stats = self._sources, self._stats
            policy_folder.save(
                self.folder / POLICY, self.config, weights, self._words, sources, stats, self.step
            )

    def _terms(self, batch: Batch) -> Tensor:
        """How many squared errors the loss of the step is a mean of, over all workers."""
        if self.config.loss == "padded":
            return torch.full((), batch.actions.numel() * self.world, device=self.device)
        terms = batch.action_mask.sum()
        if self.world > 1:
            dist.all_reduce(terms)
        return terms.clamp(min=1)

    def _model(self) -> torch.nn.Module:
        config = self.config
        torch.manual_seed(config.seed)
        with self.device:
            model = Pi0(config.model)
        freeze(model, config.freeze)
        if config.lora is not None:
            add_lora(model, config.lora, config.lora_alpha)
        return parallel.wrap(model, config, self.device)

    def _mean(self) -> Ema | None:
        decay = self.config.optimiser.ema
        return None if decay is None else Ema(parallel.bare(self.model), decay)

    def _loader(self) -> Loader:
        on_gpu = self.device.type == "cuda"
        return Loader(
            self._sources,
            order(self._sources, self.config.sources, self.config.seed),
            self._mixer,
            batch=self.config.batch,
            rank=self.rank,
            world=self.world,
            begin=self.step,
            threads=max(2, torch.get_num_threads()) if on_gpu else 2,
            finish=pinned if on_gpu else None,
        )

    def _log(self) -> AbstractContextManager[Log | None]:
        if self.rank:
            return nullcontext()
        log = Log(self.folder, self.step or None)
        for warning in self.warnings:
            log.write(self.step, {"warning": warning})
        return log


def _begin(optimiser: torch.optim.Optimizer) -> None:
    """Give AdamW the state that it gives itself at its first step, to be filled or saved."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            optimiser.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter.detach()),
                "exp_avg_sq": torch.zeros_like(parameter.detach()),
            }
