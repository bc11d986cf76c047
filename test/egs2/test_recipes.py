"""The recipes' shell: the real scripts, with a Python that records its calls."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harmonifuse_espnet.data.tasks import load_tasks

if TYPE_CHECKING:
    from conftest import Recipe

EGS2 = Path(__file__).resolve().parents[2] / "egs2"
RECIPES = sorted(path for path in EGS2.glob("*/slm1") if path.parent.name != "TEMPLATE")
BIN = "harmonifuse_espnet.bin."
TAG = "exp/train_raw_unigram_100"
TESTS = ["test_asr", "test_ser_sentences", "test_ser_voices"]
ALL = ["format_audio"] * 5 + ["train_tokenizer"] + ["collect_stats"] * 2 + ["train"] + ["decode"] * 3
ALL += ["score"] * 3 + ["write_results", "pack"]


def words(text: str) -> list[str]:
    """Split a command, none of whose words has a space."""
    return text.split()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_the_shared_files_of_a_recipe_are_links_into_the_template(recipe: Path) -> None:
    for name in ("slm.sh", "utils", "path.sh", "cmd.sh", "db.sh"):
        assert (recipe / name).is_symlink()
        assert (recipe / name).resolve() == (EGS2 / "TEMPLATE" / "slm1" / name).resolve(strict=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_a_recipes_tables_of_tasks_are_valid(recipe: Path) -> None:
    tasks = load_tasks(recipe / "conf" / "tasks.yaml")
    assert set(tasks.get("ser", {}).get("labels", ())) in ({"ang", "hap", "neu", "sad"}, set())
    assert set(tasks) <= {"asr", "ser"} and tasks


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_every_committed_recipe_prints_its_help(recipe: Path) -> None:
    done = subprocess.run([str(recipe / "run.sh"), "--help"], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    assert "Stages: 1 data" in done.stdout and "--stop_stage" in done.stdout


def test_help_shows_every_option_once_with_the_recipes_value(mini: Recipe) -> None:
    done = mini.run("--help")
    assert done.returncode == 0 and mini.calls() == []
    shown = re.findall(r"^  --([a-z_]+) +.* \[.*\]$", done.stdout, re.M)
    options = (mini.dir / "slm.sh").read_text(encoding="utf-8").split("# Options\n")[1].split("# End of options")[0]
    assert shown == re.findall(r"^([a-z_]+)=", options, re.M) and len(shown) == len(set(shown)) > 25
    assert "[train_asr train_ser]" in done.stdout


def test_all_stages_call_their_commands_in_order(mini: Recipe) -> None:
    done = mini.run(cwd=Path("/"))
    assert done.returncode == 0, done.stdout
    assert mini.commands() == ALL
    stamp = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d "
    assert len(re.findall(stamp + r"Stage \d+: ", done.stdout, re.M)) == 9
    assert re.search(stamp + r"Stages 1 to 9 done in \d+ s$", done.stdout.strip().splitlines()[-1])


def test_audio_of_several_sets_is_merged_and_test_sets_keep_all_durations(mini: Recipe) -> None:
    mini.run("--stop_stage", "2", "--min_duration", "0.5", "--max_duration", "9", "--audio_format", "wav")
    form = "--audio_format wav --sample_rate 16000"
    rest = "--skip_bad false --nj 2"
    durations = "--min_duration 0.5 --max_duration 9"
    every = "--min_duration 0 --max_duration inf"
    assert mini.calls() == [
        words(f"-m {BIN}format_audio --out_dir dump/raw/train {form} {durations} {rest} data/train_asr data/train_ser"),
        words(f"-m {BIN}format_audio --out_dir dump/raw/valid {form} {durations} {rest} data/dev_asr data/dev_ser"),
        *[words(f"-m {BIN}format_audio --out_dir dump/raw/{name} {form} {every} {rest} data/{name}") for name in TESTS],
    ]


def test_tokenizer_and_statistics_get_the_training_data(mini: Recipe) -> None:
    mini.run("--stop_stage", "5", "--vocab_size", "70", "--tokenizer_type", "bpe")
    token, stats = "data/token_list/bpe_70", "exp/stats_raw_bpe_70"
    common = f"--tokenizer {token} --tasks conf/tasks.yaml --out_dir"
    conf = "--train_config conf/train.yaml --feats_type raw"
    assert mini.calls()[5:] == [
        words(
            f"-m {BIN}train_tokenizer --data_dir dump/raw/train --tasks conf/tasks.yaml --fresh false "
            f"--out_dir {token} --vocab_size 70 --model_type bpe"
        ),
        words(f"-m {BIN}collect_stats --data_dir dump/raw/train {common} {stats}/train {conf} --feats_stats true"),
        words(f"-m {BIN}collect_stats --data_dir dump/raw/valid {common} {stats}/valid {conf}"),
    ]


def test_the_ctc_head_may_have_its_own_tokenizer(mini: Recipe) -> None:
    done = mini.run("--stop_stage", "6", "--ctc_tokenizer_type", "char", "--nproc", "1")
    token = f"-m {BIN}train_tokenizer --data_dir dump/raw/train --tasks conf/tasks.yaml --fresh false --out_dir "
    token += "data/token_list"
    assert mini.calls()[5:7] == [
        words(f"{token}/unigram_100 --vocab_size 100 --model_type unigram"),
        words(f"{token}/ctc_char --vocab_size 100 --model_type char --ctc true"),
    ], done.stdout
    training = " ".join(mini.calls()[-1])
    assert "--ctc_tokenizer data/token_list/ctc_char" in training
    assert "--output_dir exp/train_raw_unigram_100_ctc_char " in training


def test_a_speech_encoder_is_pretrained_in_stage_5(mini: Recipe) -> None:
    (mini.dir / "conf" / "encoder.yaml").write_text("max_epoch: 1\n", encoding="utf-8")
    options = ("--pretrain_config", "conf/encoder.yaml", "--nproc", "1", "--train_args", "--seed 7")
    done = mini.run("--stop_stage", "6", *options)
    before, after = (" ".join(call) for call in mini.calls()[-2:])
    model = "exp/encoder_raw_unigram_100/valid.acc.ave.pth"
    assert "--config conf/encoder.yaml " in before and "--output_dir exp/encoder_raw_unigram_100 " in before, (
        done.stdout
    )
    assert "--init_param" not in before and "--seed" not in before
    assert after.endswith(f"--init_param {model}:frontend:frontend --seed 7") and f"--output_dir {TAG} " in after
    mini.run("--stage", "5", "--stop_stage", "6", *options)
    # a complete training is checked and kept
    assert mini.commands()[-4:] == ["collect_stats", "collect_stats", "train", "train"]
    (mini.dir / model).unlink()
    assert mini.run("--stage", "5", "--stop_stage", "6", *options, "--plan", "true").returncode == 0
    assert mini.commands()[-3:] == ["collect_stats", "collect_stats", "plan"]
    refused = mini.run("--stage", "6", *options)
    assert refused.returncode and f"stage 6 needs {model}, created by stage 5" in refused.stdout


def test_forced_alignment_uses_the_pretrained_model(mini: Recipe) -> None:
    (mini.dir / "conf" / "encoder.yaml").write_text("max_epoch: 1\n", encoding="utf-8")
    options = ("--pretrain_config", "conf/encoder.yaml", "--align", "true", "--nproc", "1")
    done = mini.run("--stop_stage", "5", *options)
    model = "exp/encoder_raw_unigram_100"
    assert mini.calls()[-1] == words(
        f"-m {BIN}align --data_dir dump/raw/train --train_config {model}/config.yaml "
        f"--model_file {model}/valid.acc.ave.pth --ngpu 0"
    ), done.stdout
    mini.run("--stage", "5", "--stop_stage", "5", *options)
    assert mini.commands()[-4:] == ["collect_stats", "collect_stats", "train", "align"]


def train_options(
    ngpu: int, feats: str = "raw", speech: str = "wav.scp,speech,sound", normalize: bool = True
) -> list[str]:
    """The arguments of training, without those that launch it."""
    stats = f"exp/stats_{feats}_unigram_100"
    text = "--config conf/train.yaml --tasks conf/tasks.yaml --tokenizer data/token_list/unigram_100 --output_dir "
    text += f"exp/train_{feats}_unigram_100 --ngpu {ngpu} "
    for name in ("train", "valid"):
        for item in (speech, "text,text,text", "utt2task,task,text"):
            text += f"--{name}_data_path_and_name_and_type dump/{feats}/{name}/{item} "
        text += f"--{name}_shape_file {stats}/{name}/speech_shape --{name}_shape_file {stats}/{name}/text_shape "
    return words(
        text + "--resume true --fresh false" + (f" --feats_stats {stats}/train/feats_stats.npz" if normalize else "")
    )


@pytest.mark.parametrize(
    ("options", "launch", "end"),
    [
        (["--nproc", "1"], f"-m {BIN}train", ""),
        (
            ["--nproc", "2"],
            f"-m torch.distributed.run --standalone --nproc_per_node 2 -m {BIN}train",
            "--multiprocessing_distributed false --dist_backend gloo",
        ),
        (["--ngpu", "1"], f"-m {BIN}train", ""),
        (["--ngpu", "2"], f"-m {BIN}train", "--multiprocessing_distributed true"),
        (["--nproc", "1", "--train_args", "--max_epoch 3 --seed 7"], f"-m {BIN}train", "--max_epoch 3 --seed 7"),
    ],
)
def test_training_is_launched_for_the_devices(mini: Recipe, options: list[str], launch: str, end: str) -> None:
    mini.run("--stop_stage", "5")
    mini.record.unlink()
    done = mini.run("--stage", "6", "--stop_stage", "6", *options)
    ngpu = int(options[1]) if options[0] == "--ngpu" else 0
    assert mini.calls() == [words(launch) + train_options(ngpu) + words(end)], done.stdout


def test_a_plan_takes_the_options_of_training_and_trains_nothing(mini: Recipe) -> None:
    options = ["--train_args", "--max_epoch 3", "--nproc", "2"]
    done = mini.run("--stop_stage", "6", "--plan", "true", "--plan_args", "--device_memory 80GB", *options)
    assert done.returncode == 0, done.stdout
    end = words("--max_epoch 3 --device_memory 80GB")
    assert mini.calls()[-1] == words(f"-m {BIN}plan") + train_options(0) + end
    assert "train" not in mini.commands()


def test_the_training_log_is_beside_the_model_and_processes_have_one_thread(mini: Recipe) -> None:
    mini.run("--stop_stage", "6")
    log = (mini.dir / TAG / "train.log").read_text(encoding="utf-8")
    assert "this is train, OMP_NUM_THREADS=1\n" in log


@pytest.mark.parametrize("feats_type", ["fbank", "ssl"])
def test_features_are_extracted_and_trained_on(mini: Recipe, feats_type: str) -> None:
    (mini.dir / "conf" / "feats.yaml").write_text("n_mels: 80\n", encoding="utf-8")
    options = ["--feats_type", feats_type, "--feats_config", "conf/feats.yaml", "--nproc", "1"]
    done = mini.run("--stop_stage", "8", *options)
    assert done.returncode == 0, done.stdout
    extract = [call for call in mini.calls() if BIN + "extract_features" in call]
    rest = "--ngpu 0 --config conf/feats.yaml"
    assert extract == [
        words(
            f"-m {BIN}extract_features --feats_type {feats_type} --data_dir dump/raw/{name} "
            f"--out_dir dump/{feats_type}/{name} {rest}"
        )
        for name in ["train", "valid", *TESTS]
    ]
    [train] = [call for call in mini.calls() if BIN + "train" in call]
    assert train[2:] == train_options(0, feats_type, "feats.scp,speech,kaldi_ark", normalize=feats_type == "fbank")


def test_without_normalisation_there_are_no_feature_statistics(mini: Recipe) -> None:
    mini.run("--stop_stage", "6", "--nproc", "1", "--feats_normalize", "none")
    assert not any("--feats_stats" in call for call in mini.calls())
    assert mini.calls()[-1][2:] == train_options(0, normalize=False)


def test_audio_in_kaldi_arks_is_read_as_such(mini: Recipe) -> None:
    mini.run("--stop_stage", "6", "--nproc", "1", "--audio_format", "kaldi_ark")
    assert mini.calls()[-1][2:] == train_options(0, speech="wav.scp,speech,kaldi_ark")


def test_decoding_scoring_packing_and_uploading(mini: Recipe) -> None:
    mini.run("--stop_stage", "6")
    mini.record.unlink()
    upload = ["--upload_repo", "user/name", "--dry_run", "true"]
    done = mini.run("--stage", "7", "--stop_stage", "100", "--decode_args", "--batch_size 4", *upload)
    assert done.returncode == 0, done.stdout
    model = f"--train_config {TAG}/config.yaml --model_file {TAG}/valid.acc.ave.pth"
    results = f"{TAG}/decode_valid.acc.ave"
    assert mini.calls() == [
        *[
            words(
                f"-m {BIN}decode {model} --data_dir dump/raw/{name} --out_dir {results}/{name} "
                "--config conf/decode.yaml --ngpu 0 --feats_type raw --batch_size 4"
            )
            for name in TESTS
        ],
        *[
            words(
                f"-m {BIN}score --tasks conf/tasks.yaml --data_dir dump/raw/{name} --decode_dir {results}/{name} "
                "--train_data_dir dump/raw/train"
            )
            for name in TESTS
        ],
        words(f"-m {BIN}write_results --exp_dir {TAG} --train_config conf/train.yaml --out RESULTS.md"),
        words(f"-m {BIN}pack {model} --out {TAG}/model.zip --readme RESULTS.md"),
        words(f"-m {BIN}upload --packed {TAG}/model.zip --repo user/name --private false --dry_run true"),
    ]


def test_scoring_works_without_the_training_set(mini: Recipe) -> None:
    mini.run("--stop_stage", "7")
    mini.record.unlink()
    (mini.dir / "dump" / "raw" / "train").rename(mini.dir / "moved")
    done = mini.run("--stage", "8", "--stop_stage", "8")
    assert done.returncode == 0, done.stdout
    assert mini.commands() == ["score"] * 3 + ["write_results"]
    assert not any("--train_data_dir" in call for call in mini.calls())


def test_results_go_to_the_named_file(mini: Recipe) -> None:
    mini.run("--results", "my exp/RESULTS.md")
    assert [call[-1] for call in mini.calls()[-2:]] == ["my exp/RESULTS.md"] * 2
    assert [call[-2] for call in mini.calls()[-2:]] == ["--out", "--readme"]


def test_the_llms_own_tokenizer(mini: Recipe) -> None:
    done = mini.run("--stop_stage", "5", "--tokenizer_type", "llm", "--llm", "Qwen/Qwen3-0.6B")
    assert done.returncode == 0, done.stdout
    out = "--out_dir data/token_list/llm_Qwen_Qwen3-0.6B"
    assert mini.calls()[5][-6:] == words(f"{out} --llm_of conf/train.yaml --llm Qwen/Qwen3-0.6B")


def test_model_options_override_the_configuration(mini: Recipe) -> None:
    done = mini.run("--stop_stage", "6", "--tokenizer_type", "llm", "--nproc", "1", "--feats_normalize", "none")
    assert mini.calls()[5][-4:] == words("--out_dir data/token_list/llm_train --llm_of conf/train.yaml"), done.stdout
    assert not any("_conf" in word for word in mini.calls()[-1])
    options = ["--llm", "my llm", "--encoder", "a/b", "--feats_normalize", "none", "--nproc", "1"]
    done = mini.run("--stop_stage", "6", "--tokenizer_type", "llm", *options)
    assert mini.calls()[-1][-4:] == ["--frontend_conf", "model=a/b", "--decoder_conf", "model=my llm"], done.stdout
    assert "exp/train_raw_llm_my llm_b" in mini.calls()[-1]


def test_a_value_with_spaces_stays_one_argument(mini: Recipe) -> None:
    done = mini.run("--expdir", "my exp", "--tag", "first try", "--dumpdir", "my dump")
    assert done.returncode == 0, done.stdout
    assert mini.calls()[0][3] == "my dump/raw/train"
    assert (mini.dir / "my exp" / "first try" / "model.zip").is_file()


def test_after_a_failure_the_log_names_the_stage_to_resume_from_and_earlier_stages_are_not_repeated(
    mini: Recipe,
) -> None:
    failed = mini.run(FAIL="train")
    assert failed.returncode == 3
    assert mini.commands()[-1] == "train"
    assert "Stage 6 (train) did not finish; resume with: ./run.sh --stage 6" in failed.stdout
    mini.record.unlink()
    assert mini.run("--stage", "6").returncode == 0
    assert mini.commands() == ALL[8:]


def test_the_python_option_overrides_the_environment(mini: Recipe) -> None:
    done = mini.run("--python", str(mini.python), "--stop_stage", "2", PYTHON="/no/python")
    assert done.returncode == 0 and len(mini.calls()) == 5


def test_cmd_sh_prefixes_training_only_with_the_clusters_command(mini: Recipe) -> None:
    (mini.dir / "cmd.sh").unlink()
    (mini.dir / "cmd.sh").write_text(
        "train_cmd=()\ndecode_cmd=()\ncuda_cmd=(env OMP_NUM_THREADS=7)\n", encoding="utf-8"
    )
    done = mini.run("--nproc", "1", OMP_NUM_THREADS="3")
    assert "this is train, OMP_NUM_THREADS=7\n" in done.stdout
    assert "this is decode, OMP_NUM_THREADS=3\n" in done.stdout


def test_options_for_the_data_reach_local_data_sh(mini: Recipe) -> None:
    done = mini.run("--stop_stage", "1", "--local_data_opts", "--size small")
    assert "local/data.sh --datadir data --size small\n" in done.stdout
