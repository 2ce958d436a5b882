//! `matformer completions` and `matformer man`.

use std::process::Command;

use crate::support::Place;

#[test]
fn every_shell_has_a_script() {
    let place = Place::new();
    for (shell, part) in [
        ("bash", "complete -F _matformer"),
        ("zsh", "#compdef matformer"),
        ("fish", "complete -c matformer"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer"),
    ] {
        let script = place.matformer(&["completions", shell]).ok().stdout;
        assert!(script.contains(part), "{shell}: {script}");
        assert!(script.contains("baselines"), "{shell}");
    }
    let json = place.matformer(&["completions", "bash", "--json"]).ok().json();
    assert_eq!(json["shell"], "bash");
    assert!(place.refused(&["completions", "tcsh"]).contains("possible values: bash"));
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_commands_and_options() {
    let place = Place::new();
    place.write("matformer.bash", place.matformer(&["completions", "bash"]).ok().stdout);
    // Words typed so far, of which the last is completed.
    let completed = |words: &str| {
        let script = format!(
            "source ./matformer.bash && COMP_WORDS=({words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
             _matformer matformer \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\" && \
             echo \"${{COMPREPLY[@]}}\""
        );
        let bash = Command::new("bash")
            .args(["-c", &script])
            .current_dir(place.path("."))
            .output()
            .unwrap();
        assert!(bash.status.success(), "{bash:?}");
        String::from_utf8(bash.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("matformer tr"), "train");
    assert_eq!(completed("matformer train --dry"), "--dry-run");
    assert_eq!(completed("matformer slice --format g"), "gguf");
    let check = Command::new("bash").arg("-n").arg(place.path("matformer.bash")).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn manual_pages_are_of_all_commands() {
    let place = Place::new();
    let page = place.matformer(&["man"]).ok().stdout;
    for part in [".TH matformer 1", "MATFORMER_DEVICE", "matformer\\-train(1)"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let output = place.matformer(&["man", "--out", "man"]).ok();
    assert!(output.stdout.starts_with("man: 27 manual pages"), "{output}");
    for name in ["matformer.1", "matformer-train.1", "matformer-bench-layers.1"] {
        assert!(place.read(format!("man/{name}")).contains(".SH NAME"), "{name}");
    }
    assert!(
        place.read("man/matformer-train.1").contains("matformer train my.toml \\-\\-dry\\-run")
    );
    place.write("file", "");
    let said = place.refused(&["man", "--out", "file"]);
    assert_eq!(said, "error: file: a file; expected a folder\nhint: name another --out\n");
}
