"""compare: runs, RESULTS.md and errors, with a run.sh that only creates files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_recipe import ABLATION, make_recipe, write_config
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from harmonifuse_espnet.ablation import cost
from harmonifuse_espnet.bin.compare import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the recipe."""
    monkeypatch.chdir(make_recipe(tmp_path / "slm1"))
    monkeypatch.setattr(cost, "training_audio_seconds", lambda exp_dir: 540.0)


def run(*options: str) -> tuple[int, str]:
    """Return the exit status and the content of RESULTS.md."""
    with pytest.raises(SystemExit) as ended:
        main(options)
    return int(ended.value.code or 0), Path("RESULTS.md").read_text() if Path("RESULTS.md").exists() else ""


def calls() -> int:
    return len(Path("calls").read_text().splitlines())


def test_all_runs_are_executed_and_all_sections_written(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run("--jobs", "2")
    assert status == 0 and calls() == 1 + 6 * 2
    assert text.startswith(
        "# RESULTS\n\nWritten by `harmonifuse_espnet.bin.compare`; do not edit.\n\n## Environments\n"
    )
    assert text.index("## Summary") < text.index("## Comparison") < text.index("## Cost")
    assert "\n## exp/ablation/ours_seed1\n\n- training config: [conf/train.yaml](conf/train.yaml)" in text
    assert capsys.readouterr().out.endswith("; no runs left\nwrote RESULTS.md\n")


def test_tables_of_comparison_and_cost() -> None:
    _, text = run()
    wer = "### decode_valid.acc.ave\n\nWER of asr (llm) on test_asr, 40 utterances of 10 speakers:\n\n"
    header = "|variant|seeds|WER|difference to Ours|p|p (Holm)|verdict|\n|---|---|---|---|---|---|---|\n"
    assert f"{wer}{header}|Ours|2|5.0 ± 0.0|-|-|-|-|\n" in text
    assert re.search(
        r"\|naive multi-task\|2\|15\.0 ± 0\.0\|\+10\.0 \[\+8\.\d, \+1[12]\.\d\]\|0\.002\|0\.006\|worse\|\n", text
    )
    assert re.search(
        r"\|a repetition\|1\|5\.0\|\+0\.0 \[-[\d.]+, \+[\d.]+\]\|1\.000\|1\.000\|no difference shown\|", text
    )
    assert "|[Ours](conf/train.yaml)|1,000|900|3|4.0|" in text
    assert text.count("|0.200|1|\n") == 4  # RTF and jobs


def test_the_summary_has_all_verdicts() -> None:
    _, text = run()
    wer = "WER of asr (llm) on test_asr (5.0 ± 0.0 against"
    ua = "UA of ser (llm) on test_ser (75.0 ± 0.0 against 25.0 ± 0.0)"
    assert (
        "## Summary\n\n"
        "Runs of a test.\n\n"
        "Decoding with `conf/decode.yaml`:\n\n"
        f"- Ours against asr_only: better in {wer} 10.0).\n"
        f"- Ours against naive multi-task: better in {wer} 15.0 ± 0.0) and {ua}.\n"
        "- No difference shown in any metric against a repetition.\n\n"
    ) in text


def test_selected_variants_are_run_and_all_existing_runs_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run("--variants", "ours", "--seeds", "1")
    assert calls() == 3
    status, text = run("--variants", "naive")
    assert status == 0 and calls() == 3 + 4
    assert "|Ours|1 of 2|5.0|-|-|-|-|\n|asr_only|0 of 1|-|-|-|-|missing|\n|naive multi-task|2|15.0 ± 0.0|" in text
    assert "- Ours against asr_only: not compared in WER of asr (llm) on test_asr.\n" in text
    assert run("--run", "false")[1].partition("## Summary")[2] == text.partition("## Summary")[2]
    assert calls() == 3 + 4
    assert run("--variants", "his")[0] == 1
    assert "--variants: unknown variant 'his'; known are ours, asr_only, naive, same" in capsys.readouterr().err


def test_learning_curves_of_all_variants_are_drawn_and_linked() -> None:
    for name in ("ours_seed1", "naive_seed1"):
        for split in ("train", "valid"):
            writer = EventFileWriter(f"exp/ablation/{name}/tensorboard/{split}")
            summary = Summary(value=[Summary.Value(tag="acc_asr", simple_value=0.5)])
            writer.add_event(Event(wall_time=0.0, step=1, summary=summary))
            writer.close()
    _, text = run("--seeds", "1")
    assert "![learning curves of all variants](images/ablation_learning_curves.png)" in text
    assert Path("images/ablation_learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_after_a_failed_run_the_tables_are_written_and_the_status_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIL", "asr_only_seed1:7")
    status, text = run()
    assert status == 1 and "|asr_only|0 of 1|-|-|-|-|missing|\n" in text
    assert capsys.readouterr().out.endswith("\nwrote RESULTS.md; 1 runs failed\n")


def test_a_failed_preparation_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIL", "none:1")
    assert run() == (1, "")
    message = "error: ./run.sh --stage 1 --stop_stage 5 failed with exit status 3; see exp/ablation/prepare.log\n"
    assert capsys.readouterr().err == message


def test_a_changed_configuration_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run("--variants", "ours")
    write_config(Path(), "train", {"optim_conf": {"lr": 0.2}, "max_epoch": 2})
    before = calls()
    assert run()[0] == 1 and calls() == before
    assert "optim_conf.lr was 0.1, is now 0.2" in capsys.readouterr().err


def test_each_decoding_configuration_has_a_section_and_the_summary_is_for_the_first() -> None:
    write_config(Path(), "decode_held_out", {"prompts": "held_out"})
    write_config(Path(), "ablation", {**ABLATION, "decode": ["conf/decode.yaml", "conf/decode_held_out.yaml"]})
    _, text = run("--seeds", "1")
    assert "\n### decode_valid.acc.ave\n" in text and "\n### decode_held_out_valid.acc.ave\n" in text
    assert text.partition("## Comparison")[0].count("naive multi-task") == 1
    assert calls() == 1 + 4 * 3


def test_without_scores_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--run", "false") == (1, "")
    assert "exp/ablation: no run is scored with the current conf/decode.yaml" in capsys.readouterr().err


def test_jobs_and_seeds_below_1_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--jobs", "0")[0] == 2
    assert "--jobs and --seeds must be 1 or more, got 0 and None" in capsys.readouterr().err
