"""The workloads as tests and benches use them: how to run them in seconds, and which statements are put where.

`outer` and `inner` are what a user might want to know afterwards, of an epoch and of a step: the line of the script that the statement goes
behind, and the values that it prints. Lines that match `clock` show the time. `saved` is what somebody who saves checkpoints by hand
would save each epoch: behind which line, what, and the number that the file is told by.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One workload; `tiny` are the arguments with which it takes seconds."""

    script: str
    outer: tuple[str, str]
    inner: tuple[str, str]
    tiny: tuple[str, ...] = ("--scale", "tiny")
    clock: str | None = None
    saved: tuple[str, str, str] | None = None

    def statement(self, which: str) -> tuple[str, str]:
        """The line that a hindsight statement goes behind, and the statement: `which` is "outer" or "inner"."""
        anchor, values = self.outer if which == "outer" else self.inner
        return anchor, f"print('@@', {values})"

    def saving(self) -> tuple[str, str]:
        """The same for a statement that saves a checkpoint to `saved-NUMBER.pt`.

        Raises:
            ValueError: where it is not known what somebody would save.
        """
        if self.saved is None:
            raise ValueError(f"{self.script} has no statement that saves")
        anchor, what, number = self.saved
        return anchor, f"torch.save({what}, f'saved-{{{number}}}.pt')"


_STATE = "{'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'scheduler': scheduler.state_dict(), 'epoch': epoch}"

CASES = {
    "rte": Case(
        "rte.py",
        outer=("rate = scheduler.get_last_lr()[0]", "epoch, repr(total), accuracy"),
        inner=("loss.backward()", "epoch, step, repr(loss.item()), repr(model.classifier[0].weight.grad.norm().item())"),
        saved=("rate = scheduler.get_last_lr()[0]", _STATE, "epoch"),
    ),
    "cola": Case(
        "cola.py",
        outer=("random.shuffle(train)", "epoch, train[0][0].tolist(), repr(model.embed.weight.norm().item())"),
        inner=("running += loss.item()", "index, repr(running), repr(model.embed.weight.grad.norm().item())"),
        saved=("random.shuffle(train)", _STATE, "epoch"),
    ),
    "cifr": Case(
        "cifr.py",
        outer=("acc = test(model, args.device, test_loader)", "epoch, repr(train_loss), acc, best_acc"),
        inner=("loss.backward()", "epoch, batch_idx, repr(loss.item()), repr(model[0].weight.grad.norm().item())"),
        saved=("acc = test(model, args.device, test_loader)", _STATE, "epoch"),
    ),
    "rsnt": Case(
        "rsnt.py",
        outer=("callback.on_epoch_end(self)", "self.epoch, self.history['val_loss'], self.scheduler.get_last_lr()"),
        inner=("loss.backward()", "self.epoch, repr(loss.item()), repr(self.model.fc.weight.grad.norm().item())"),
        # its outer line is passed once for each callback
        saved=(
            "self.scheduler.step()",
            "{'model': self.model.state_dict(), 'optimizer': self.optimizer.state_dict(), 'scheduler': self.scheduler.state_dict(), "
            "'history': self.history, 'epoch': self.epoch}",
            "self.epoch",
        ),
    ),
    "wiki": Case(
        "wiki.py",
        outer=("best = min(best, valid_loss)", "step, repr(valid_loss), repr(best)"),
        inner=("scaler.unscale_(optimizer)", "step, repr(loss.item()), repr(model.norm.weight.grad.norm().item())"),
        saved=(
            "best = min(best, valid_loss)",
            "{'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'scaler': scaler.state_dict(), 'step': step}",
            "step",
        ),
    ),
    "jasp": Case(
        "jasp.py",
        outer=("scheduler.step()", "epoch, repr(model.epilogue.weight.norm().item()), scheduler.get_last_lr()"),
        inner=("loss.backward()", "epoch, batch, repr(loss.item()), lengths.tolist()[:3]"),
        clock=r" s\)$",
        saved=("scheduler.step()", _STATE, "epoch"),
    ),
    "imgn": Case(
        "imgn.py",
        outer=("best_acc1 = max(acc1, best_acc1)", "epoch, acc1, best_acc1, is_best"),
        inner=("loss.backward()", "epoch, i, repr(loss.item()), target.tolist(), repr(model[0].weight.grad.norm().item())"),
        clock=r"Time",
        # what the script's own --resume reads
        saved=(
            "best_acc1 = max(acc1, best_acc1)",
            "{'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best_acc1': best_acc1, 'optimizer': optimizer.state_dict()}",
            "epoch + 1",
        ),
    ),
    "rnnt": Case(
        "rnnt.py",
        outer=("scheduler.step(score)", "epoch, repr(score), waited, optimizer.param_groups[0]['lr']"),
        inner=("loss.backward()", "epoch, start, repr(loss.item()), repr(decoder.out.weight.grad.norm().item())"),
        saved=(
            "scheduler.step(score)",
            "{'encoder': encoder.state_dict(), 'decoder': decoder.state_dict(), 'optimizer': optimizer.state_dict(), "
            "'scheduler': scheduler.state_dict(), 'epoch': epoch}",
            "epoch",
        ),
    ),
    "digits_cnn": Case(
        "digits_cnn.py",
        tiny=("--epochs", "3", "--width", "4"),
        outer=(
            "scheduler.step()",
            "epoch, repr(train_loss), scheduler.get_last_lr(), repr(model.bn1.running_var.sum().item())",
        ),
        inner=("loss.backward()", "epoch, step, repr(loss.item()), repr(model.fc2.weight.grad.norm().item())"),
    ),
    "char_lm": Case(
        "char_lm.py",
        tiny=("--max-iters", "30", "--eval-interval", "10", "--eval-iters", "2", "--n-embd", "16", "--block-size", "32"),
        outer=("losses = estimate_loss()", "step, {k: repr(v) for k, v in losses.items()}, lr"),
        inner=("loss.backward()", "step, repr(loss.item()), repr(model.ln_f.weight.grad.norm().item())"),
    ),
}
"""The paper's eight first, in the order of its tables; then two that need no more than a laptop."""

PAPER = ("rte", "cola", "cifr", "rsnt", "wiki", "jasp", "imgn", "rnnt")
