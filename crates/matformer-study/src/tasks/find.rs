//! Tasks by name.

use std::path::Path;

use matformer_run::{Error, Hinted, Result};
use matformer_tasks::{self as tasks, PAPER, Task};

/// Stands for all built-in tasks.
const ALL: &str = "paper";

/// The tasks of these names, of a folder of task files or built in; `paper` stands for all that are built in.
///
/// # Errors
/// A name that no task has, or a task file that cannot be read.
pub fn find(names: &[String], folder: Option<&Path>) -> Result<Vec<Task>> {
    let names = names.iter().flat_map(|name| match name.as_str() {
        ALL => PAPER.to_vec(),
        name => vec![name],
    });
    names.map(|name| one(name, folder)).collect()
}

/// A task of the folder, or a built-in one.
fn one(name: &str, folder: Option<&Path>) -> Result<Task> {
    let missing = match folder.map(|folder| Task::find(folder, name)) {
        Some(Ok(task)) => return Ok(task),
        Some(Err(error @ tasks::Error::UnknownTask { .. })) => Some(error),
        Some(Err(error)) => return Err(Error::refused(error)),
        None => None,
    };
    if let Some(task) = Task::built_in(name).map_err(Error::refused)? {
        return Ok(task);
    }
    Err(match missing {
        Some(error) => Error::refused(error),
        None => Error::Input(Hinted {
            message: format!("task `{name}`: no such built-in task"),
            hint: format!(
                "built in: {ALL}, which stands for all others, {}; --task-path names a folder of task files",
                PAPER.join(", ")
            ),
        }),
    })
}
