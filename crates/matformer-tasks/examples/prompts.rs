//! Prints the first prompts of a task: `prompts DIR TASK`.

use std::{env::args, path::Path};

use matformer_tasks::Task;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (Some(folder), Some(name)) = (args().nth(1), args().nth(2)) else {
        return Err("usage: prompts DIR TASK".into());
    };
    let found = Task::find(Path::new(&folder), &name)?.examples(None, Some(3))?;
    for example in &found.examples {
        println!("{}\n{}", example.at, example.context);
        for (index, choice) in example.continuations.iter().enumerate() {
            let mark = if example.gold.contains(&index) { '*' } else { ' ' };
            println!("  {mark} {choice:?}");
        }
    }
    for problem in &found.problems {
        println!("{}: {}", problem.row, problem.reason);
    }
    Ok(())
}
