//! Runs that a launcher starts as several processes, with Open MPI's `mpirun`.

use crate::support::Place;

/// The variables of a launcher of two processes.
const OPEN_MPI: [(&str, &str); 2] = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
/// With the PMI of Cray: with `PMIX_NAMESPACE`, Open MPI would look for the server of PMIx.
const SLURM: [(&str, &str); 4] = [
    ("PMI_CONTROL_PORT", "1"),
    ("SLURM_PROCID", "0"),
    ("SLURM_STEP_NUM_TASKS", "2"),
    ("SLURM_LOCALID", "0"),
];
const TORCHRUN: [(&str, &str); 4] =
    [("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "localhost")];

/// What the binary says with the variables of a launcher.
fn refused(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let place = Place::new();
    let before = place.tree();
    let mut command = place.command(arguments);
    command.envs(variables.iter().copied());
    let output = crate::support::Output::of(command.output().unwrap());
    assert_eq!(output.code, Some(2), "{output}");
    assert!(place.tree() == before, "something was written: {output}");
    output.stderr
}

#[test]
fn srun_without_mpi_is_refused_with_the_right_command() {
    snapshot!(refused(&SLURM[1..], &["train", "run.toml", "--out", "run"]), @"
    error: started by Slurm's srun without `--mpi` as one of 2 processes; expected a launcher of MPI programs
    hint: start it with `mpirun -n 2 matformer train …` or `srun --mpi=pmix -n 2 matformer train …`
    ");
}

#[test]
fn torchrun_is_refused_with_the_right_command() {
    snapshot!(refused(&TORCHRUN, &["train", "run.toml", "--out", "run"]), @"
    error: started by torchrun as one of 2 processes; expected a launcher of MPI programs
    hint: start it with `mpirun -n 2 matformer train …` or `srun --mpi=pmix -n 2 matformer train …`
    ");
}

#[test]
fn a_command_of_one_process_is_refused_on_several() {
    snapshot!(refused(&OPEN_MPI, &["report", "run"]), @"
    error: started by Open MPI's mpirun as one of 2 processes; only `matformer train`, `search` and `eval` run on several
    hint: start it without a launcher
    ");
    let wrong = [("PMI_RANK", "2"), ("PMI_SIZE", "2")];
    snapshot!(refused(&wrong, &["train", "run.toml"]), @"error: environment variable `PMI_RANK` is `2`; expected a number below 2, which is `PMI_SIZE`");
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_without_mpi_is_refused_on_several_processes() {
    snapshot!(refused(&OPEN_MPI, &["train", "run.toml", "--out", "run"]), @"
    error: started by Open MPI's mpirun as one of 2 processes; this program was built without MPI
    hint: build it with `cargo build --release --package matformer --features mpi`
    ");
    let slurm = refused(&SLURM, &["train", "run.toml", "--out", "run"]);
    assert!(slurm.starts_with("error: started by Slurm's srun as one of 2 processes; "), "{slurm}");
}

#[cfg(feature = "mpi")]
mod over_mpi {
    use std::{
        fs,
        process::{Child, Command, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use crate::{
        support::{Output, Place},
        tasks, vision,
    };

    /// `mpirun` in a place, for some ranks and their arguments, and as many more.
    fn mpirun(place: &Place, groups: &[(usize, &[&str])]) -> Command {
        let one = place.command(&[]);
        let mut command = Command::new("mpirun");
        command
            .args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"])
            .current_dir(place.path(""))
            .envs(one.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (i, (ranks, arguments)) in groups.iter().enumerate() {
            command.args((i > 0).then_some(":"));
            command.args(["-n", &ranks.to_string()]).arg(one.get_program()).args(*arguments);
        }
        command
    }

    /// What `ranks` of them print.
    fn on(ranks: usize, place: &Place, arguments: &[&str]) -> Output {
        Output::of(mpirun(place, &[(ranks, arguments)]).output().unwrap())
    }

    /// All losses of a run, in their order.
    fn losses(place: &Place, run: &str) -> Vec<f64> {
        let lines = place.read_lines(format!("{run}/metrics.jsonl"));
        let of = |line: &serde_json::Value| {
            let losses = line.get("loss").or(line.get("held_out")).unwrap().as_object().unwrap();
            losses.values().map(|loss| loss.as_f64().unwrap()).collect::<Vec<f64>>()
        };
        lines.iter().flat_map(of).collect()
    }

    /// Checks that a run has the losses of another.
    fn follows(place: &Place, run: &str, other: &str) {
        let (a, b) = (losses(place, run), losses(place, other));
        assert_eq!(a.len(), b.len());
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{worst:e}");
    }

    #[test]
    fn two_ranks_make_the_run_of_one() {
        let place = Place::new();
        let train = |out| ["train", "run.toml", "--set", "train.steps=50", "--out", out];
        let output = on(2, &place, &train("two")).ok();
        assert_eq!(output.stderr.matches("step 50/50").count(), 1, "{output}");
        place.matformer(&train("one")).ok();
        follows(&place, "two", "one");
        let files = |run: &str| place.list(run).replace(".lock\n", "");
        assert_eq!(files("two"), files("one"));
        let again = on(2, &place, &[&train("two")[..], &["--resume"]].concat()).ok();
        snapshot!(again, @"
        exit code 0
        --- standard error
        two: complete, nothing to do
        ");
    }

    #[test]
    fn three_ranks_share_images_that_are_mixed() {
        let place = vision::place();
        // Of its four classes each has as many images in a step: gradients of the head's biases are zero but
        // for rounding, of which AdamW makes whole steps. Unnamed, the classes are ten.
        place.remove("images/classes.txt");
        let train = |out| ["train", "vit.toml", "--set", "train.steps=50", "--out", out];
        on(3, &place, &train("three")).ok();
        place.matformer(&train("one")).ok();
        follows(&place, "three", "one");
    }

    /// What a command prints as JSON on two ranks and on one, each with a model of which nothing was measured.
    fn on_two_and_one(arguments: &[&str]) -> [serde_json::Value; 2] {
        let places = [(); 2].map(|()| Place::trained());
        let two = on(2, &places[0], arguments).ok().json();
        // Rank 0 has kept all.
        let measured = |place: &Place| place.measured("run").len();
        let kept = measured(&places[0]);
        assert!(kept > 0);
        assert_eq!(on(2, &places[0], arguments).ok().json()["results"], two["results"]);
        assert_eq!(measured(&places[0]), kept);
        [two, places[1].matformer(arguments).ok().json()]
    }

    #[test]
    fn two_ranks_measure_what_one_does() {
        let [two, one] =
            on_two_and_one(&["eval", "run", "--submodels", "S,M,32x1+64x1,L,XL", "--json"]);
        assert_eq!(two, one);
    }

    #[test]
    fn two_ranks_find_what_one_does() {
        let [mut two, mut one] =
            on_two_and_one(&["search", "run", "--budget", "60%", "--per-document", "--json"]);
        assert!(two["found"].as_array().unwrap().len() > 2, "{two}");
        for document in [&mut two, &mut one] {
            for found in document["found"].as_array_mut().unwrap() {
                found.as_object_mut().unwrap().remove("seconds").unwrap();
            }
        }
        assert_eq!(two, one);
    }

    #[test]
    fn an_error_of_the_first_rank_ends_those_that_help() {
        let place = Place::trained();
        let output = on(2, &place, &["eval", "run", "--submodels", "gross"]);
        let said = output.stderr.lines().filter(|line| line.contains("error: ")).count();
        assert!(output.code == Some(2) && said == 1, "{output}");
        assert!(output.stderr.contains("gross"), "{output}");
    }

    #[test]
    fn two_ranks_score_tasks_as_one_does() {
        let places = [(); 2].map(|()| tasks::kinds());
        let arguments =
            [&tasks::KINDS_EVAL[..], &["--submodels", "S,M,32x1+64x1,XL", "--json"]].concat();
        let two = on(2, &places[0], &arguments).ok().json();
        let kept = places[0].measured("run");
        assert_eq!(two, places[1].matformer(&arguments).ok().json());
        assert_eq!(kept, places[1].measured("run"), "the same files");
        assert_eq!(on(2, &places[0], &arguments).ok().json(), two);
        assert_eq!(places[0].measured("run"), kept, "nothing is measured again");

        let mixed =
            mpirun(&places[0], &[(1, &arguments), (1, &["search", "run", "--budget", "60%"])]);
        let mixed = Output::of({ mixed }.output().unwrap());
        let expected = "rank 1: the command is search; expected eval, as on rank 0";
        assert!(mixed.code == Some(2) && mixed.stderr.contains(expected), "{mixed}");

        let unknown = on(2, &places[0], &["eval", "run", "--tasks", "chess"]);
        let said = unknown.stderr.lines().filter(|line| line.contains("error: ")).count();
        assert!(unknown.code == Some(2) && said == 1, "{unknown}");
        assert!(unknown.stderr.contains("task `chess`: no such built-in task"), "{unknown}");
    }

    #[test]
    fn a_rank_that_differs_is_refused() {
        let place = Place::new();
        let arguments: &[&str] = &["train", "run.toml", "--out", "run"];
        let other = [arguments, &["--set", "train.seed=7"]].concat();
        let output = Output::of(mpirun(&place, &[(1, arguments), (1, &other)]).output().unwrap());
        let said =
            output.stderr.lines().filter(|line| line.contains("error: ")).collect::<Vec<_>>();
        assert_eq!(
            said,
            ["error: rank 1: `train.seed` is 7; expected 0, as on rank 0"],
            "{output}"
        );
        assert_ne!(output.code, Some(0));
        assert!(!place.path("run").exists(), "{output}");
    }

    #[test]
    fn a_world_that_is_smaller_than_its_launcher_says_is_refused() {
        snapshot!(super::refused(&super::OPEN_MPI, &["train", "run.toml", "--out", "run"]), @"
        error: MPI connects 1 of the 2 processes that Open MPI's mpirun has started
        hint: start it with the launcher of the MPI that it was built with; with Slurm that is `srun --mpi=pmix` for Open MPI, `srun --mpi=pmi2` for MPICH
        ");
        let slurm = super::refused(&super::SLURM, &["train", "run.toml", "--out", "run"]);
        let said = "error: MPI connects 1 of the 2 processes that Slurm's srun has started";
        assert!(slurm.starts_with(said), "{slurm}");
    }

    #[test]
    fn one_task_of_slurm_is_a_process_by_itself() {
        let place = Place::new();
        let mut command = place.command(&["train", "run.toml", "--out", "run"]);
        command.envs([("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_NTASKS", "8")]);
        Output::of(command.output().unwrap()).ok();
    }

    /// A run of two ranks that takes long, and its processes once it has made some steps.
    fn long(place: &Place) -> (Child, Vec<u32>) {
        let arguments =
            ["train", "run.toml", "--out", "run", "--set", "train.steps=200", "--resume"];
        let child = mpirun(place, &[(2, &arguments)]).spawn().unwrap();
        let begun = Instant::now();
        while !place.path("run/checkpoints/step-000008/matformer.json").exists() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no step was made");
            sleep(Duration::from_millis(20));
        }
        let id = child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let ranks = children.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
        assert_eq!(ranks.len(), 2);
        (child, ranks)
    }

    fn kill(signal: &str, process: u32) {
        let status = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn a_rank_that_is_killed_ends_all_and_another_number_of_ranks_goes_on() {
        let place = Place::new();
        let (child, ranks) = long(&place);
        kill("-KILL", ranks[1]);
        let killed = Instant::now();
        let output = Output::of(child.wait_with_output().unwrap());
        assert!(killed.elapsed() < Duration::from_secs(30));
        assert_ne!(output.code, Some(0));
        assert!(output.stderr.contains("process rank 1"), "{output}");
        assert!(newest(&place) < 200);
        let output = on(3, &place, &["train", "run", "--resume"]).ok();
        assert!(output.stderr.contains("resuming at step"), "{output}");
        assert_eq!(newest(&place), 200);
    }

    #[test]
    fn a_signal_to_one_rank_saves_and_ends_all() {
        let place = Place::new();
        let (child, ranks) = long(&place);
        kill("-INT", ranks[1]);
        let output = Output::of(child.wait_with_output().unwrap());
        assert_eq!(output.code, Some(130), "{output}");
        let step = newest(&place);
        let said = format!("interrupted after step {step}, saved; go on with: ");
        assert!(output.stderr.contains(&said), "{output}");
    }

    /// The step of the newest checkpoint.
    fn newest(place: &Place) -> u64 {
        let folders = fs::read_dir(place.path("run/checkpoints")).unwrap();
        let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max().unwrap()
    }
}
