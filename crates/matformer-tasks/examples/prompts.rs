//! Prints the first prompts of a task: `prompts DIR TASK`.

use std::{env::args, path::Path};

use matformer_tasks::{Prompt, Question, Task};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (Some(folder), Some(name)) = (args().nth(1), args().nth(2)) else {
        return Err("usage: prompts DIR TASK".into());
    };
    let found = Task::find(Path::new(&folder), &name)?.examples(None, Some(3))?;
    for example in &found.examples {
        println!("{}", example.at);
        match &example.question {
            Question::Choice { prompts, gold, .. } => {
                for (index, prompt) in prompts.iter().enumerate() {
                    let mark = if gold.contains(&index) { '*' } else { ' ' };
                    println!("{mark} {:?} {:?}", prompt.context, prompt.continuation);
                }
            }
            Question::Continuation(Prompt { context, continuation }) => {
                println!("{context:?} {continuation:?}");
            }
            Question::Text { text, words } => println!("{words} words: {text:?}"),
            Question::Generation { context, answers } => println!("{context:?} {answers:?}"),
        }
    }
    for problem in &found.problems {
        println!("{}: {}", problem.row, problem.reason);
    }
    Ok(())
}
