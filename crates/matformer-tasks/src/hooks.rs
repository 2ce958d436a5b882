//! What the Python functions of some tasks do.
//!
//! A function is known by the folder of its task and its name: lm-evaluation-harness' `hellaswag/utils.process_docs` is
//! `hellaswag.process_docs` here, which is also what the built-in tasks call it.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::matching::is_space;

/// A row: its columns.
type Row = Map<String, Value>;

/// A function of a row; errors say what is wrong with it.
pub(crate) type Hook = fn(&Row) -> Result<Value, String>;

/// Functions that transform a row, and functions that return a field.
const HOOKS: [(&str, Hook); 19] = [
    ("copa.doc_to_choice", copa_choice),
    ("copa.doc_to_target", copa_target),
    ("copa.doc_to_text", copa_text),
    ("hellaswag.process_docs", hellaswag),
    ("race.doc_to_choice", race_choice),
    ("race.doc_to_target", race_target),
    ("race.doc_to_text", race_text),
    ("record.doc_to_choice", record_choice),
    ("record.doc_to_target", record_target),
    ("record.doc_to_text", record_text),
    ("record.process_docs", record),
    ("webqs.doc_to_choice", webqs_choice),
    ("webqs.doc_to_target", webqs_target),
    ("winogrande.doc_to_choice", winogrande_choice),
    ("winogrande.doc_to_target", winogrande_target),
    ("winogrande.doc_to_text", winogrande_text),
    ("wsc.default_doc_to_text", wsc_text),
    ("wsc273.process_doc", wsc273),
    ("wsc273.process_docs", wsc273),
];

/// The function that a file calls `name`, if it is a known one.
pub(crate) fn find(file: &Path, name: &str) -> Option<Hook> {
    HOOKS.iter().find(|(known, _)| is(file, name, known)).map(|(_, hook)| *hook)
}

/// Whether what a file calls `name` is the function `known`.
pub(crate) fn is(file: &Path, name: &str, known: &str) -> bool {
    let folder = file.parent().and_then(Path::file_name).and_then(|folder| folder.to_str());
    let name = name.trim_matches(['"', '\'']).rsplit_once('.');
    let (Some(folder), Some((module, function))) = (folder, name) else { return false };
    let task = if folder == BUILT_IN { module } else { folder };
    known.split_once('.') == Some((task, function))
}

/// The folder that the built-in tasks are in.
pub(crate) const BUILT_IN: &str = "built-in";

fn text<'a>(row: &'a Row, name: &str) -> Result<&'a str, String> {
    let value = row.get(name).ok_or_else(|| format!("column `{name}` is missing"))?;
    value.as_str().ok_or_else(|| format!("column `{name}` is {value}, expected text"))
}

fn number(row: &Row, name: &str) -> Result<usize, String> {
    let value = row.get(name).ok_or_else(|| format!("column `{name}` is missing"))?;
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("column `{name}` is {value}, expected a number"))
}

fn texts<'a>(row: &'a Row, name: &str) -> Result<Vec<&'a str>, String> {
    let wrong = || format!("column `{name}` is missing or no list of texts");
    let items = row.get(name).and_then(Value::as_array).ok_or_else(wrong)?;
    items.iter().map(|item| item.as_str().ok_or_else(wrong)).collect()
}

fn with(row: &Row, changed: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut row = row.clone();
    row.extend(changed.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(row)
}

fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

// HellaSwag: a context of two sentences, without the marks of WikiHow.

fn hellaswag(row: &Row) -> Result<Value, String> {
    let query = format!(
        "{}: {} {}",
        text(row, "activity_label")?,
        text(row, "ctx_a")?,
        capitalized(text(row, "ctx_b")?)
    );
    let endings = texts(row, "endings")?.into_iter().map(without_marks);
    let label = match row.get("label") {
        Some(Value::String(label)) => label.clone(),
        Some(label) => label.to_string(),
        None => return Err("column `label` is missing".to_owned()),
    };
    let gold: i64 = label.parse().map_err(|_| format!("label {label:?}, expected a number"))?;
    let choices: Vec<String> = endings.collect();
    Ok(with(
        row,
        [
            ("query", without_marks(&query).into()),
            ("choices", choices.into()),
            ("gold", gold.into()),
        ],
    ))
}

/// `str.capitalize` of Python.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

fn without_marks(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    let mut kept = String::new();
    let mut rest = text.as_str();
    // What is in brackets, on one line.
    while let Some((before, after)) = rest.split_once('[') {
        kept.push_str(before);
        match after.split_once(']') {
            Some((inside, behind)) if !inside.contains('\n') => rest = behind,
            _ => {
                kept.push('[');
                rest = after;
            }
        }
    }
    kept.push_str(rest);
    kept.replace("  ", " ")
}

// WinoGrande: each option in the place of the blank precedes the rest of the sentence.

fn winogrande_parts(row: &Row) -> Result<(&str, &str), String> {
    let sentence = text(row, "sentence")?;
    sentence.split_once('_').ok_or_else(|| "column `sentence` has no `_`".to_owned())
}

fn winogrande_text(row: &Row) -> Result<Value, String> {
    match text(row, "answer")? {
        "1" => Ok(0.into()),
        "2" => Ok(1.into()),
        other => Err(format!("column `answer` is {other:?}, expected \"1\" or \"2\"")),
    }
}

fn winogrande_target(row: &Row) -> Result<Value, String> {
    Ok(strip(winogrande_parts(row)?.1).into())
}

fn winogrande_choice(row: &Row) -> Result<Value, String> {
    let (before, _) = winogrande_parts(row)?;
    Ok(json!([
        format!("{before}{}", text(row, "option1")?),
        format!("{before}{}", text(row, "option2")?)
    ]))
}

// Winograd: options as they would stand in the place of the pronoun.

/// Words that begin an option, and are in lower case within a sentence.
const CAPITALS: [&str; 11] =
    ["A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their"];

fn wsc273(row: &Row) -> Result<Value, String> {
    let sentence = text(row, "text")?.replace("  ", " ");
    let (pronoun, at) = (text(row, "pronoun")?.to_lowercase(), number(row, "pronoun_loc")?);
    let owns = ["my", "his", "her", "our", "their"].contains(&pronoun.as_str());
    // Python counts from the end below 0.
    let chars: Vec<char> = sentence.chars().collect();
    let place = if at >= 2 { Some(at - 2) } else { (chars.len() + at).checked_sub(2) };
    let before = place.and_then(|place| chars.get(place));
    let begins = *before.ok_or("column `pronoun_loc` is behind the text")? == '.';
    let option = |option: &str| {
        let option = if owns { format!("{option}'s") } else { option.to_owned() };
        let word = option.split(is_space).find(|word| !word.is_empty()).unwrap_or_default();
        if !begins && CAPITALS.contains(&word) {
            option.replace(word, &word.to_lowercase())
        } else {
            option.clone()
        }
    };
    let options = texts(row, "options")?;
    if options.len() < 2 {
        return Err("column `options` has fewer than two".to_owned());
    }
    let changed = |at: usize| if at < 2 { option(options[at]) } else { options[at].to_owned() };
    let options: Vec<String> = (0..options.len()).map(changed).collect();
    Ok(with(row, [("text", sentence.into()), ("options", options.into())]))
}

// WSC of SuperGLUE: the pronoun is marked.

fn wsc_text(row: &Row) -> Result<Value, String> {
    let passage = text(row, "text")?;
    let (noun, pronoun) = (text(row, "span1_text")?, text(row, "span2_text")?);
    let words = passage.split(is_space).filter(|word| !word.is_empty());
    let before: Vec<&str> = words.take(number(row, "span2_index")?).collect();
    let before = before.join(" ");
    let skipped = before.chars().count() + pronoun.chars().count() + 1;
    let behind: String = passage.chars().skip(skipped).collect();
    let passage = detokenized(&format!("{before} *{pronoun}*{behind}"));
    Ok(format!(
        "Passage: {passage}\nQuestion: In the passage above, does the pronoun \"*{pronoun}*\" refer to \
         \"*{noun}*\"?\nAnswer:"
    )
    .into())
}

/// Text without the spaces that separate its tokens.
fn detokenized(text: &str) -> String {
    let pairs = [(" n't", "n't"), (" )", ")"), ("( ", "("), ("\" ", "\""), (" \"", "\"")];
    let text = pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let mut found = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != ' ' || !chars.peek().is_some_and(|next| ['\'', '.', ','].contains(next)) {
            found.push(c);
        }
    }
    found
}

// RACE: all questions of an article, of which the last is asked.

/// A question of an article.
struct Problem {
    question: String,
    answer: usize,
    options: Vec<String>,
}

/// The column is a list as Python prints it.
fn problems(row: &Row) -> Result<Vec<Problem>, String> {
    let wrong = |what: &str| format!("column `problems`: {what}");
    let list = minijinja::Environment::new()
        .compile_expression(text(row, "problems")?)
        .and_then(|list| list.eval(()))
        .map_err(|_| wrong("expected a list of objects"))?;
    let list = serde_json::to_value(list).map_err(|_| wrong("expected a list of objects"))?;
    let problem = |item: &Value| {
        let item = item.as_object().ok_or_else(|| wrong("expected objects"))?;
        let answer = text(item, "answer")?;
        let answer = ["A", "B", "C", "D"].iter().position(|letter| *letter == answer);
        let options = texts(item, "options")?.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let answer = answer.ok_or_else(|| wrong("`answer` is no letter from A to D"))?;
        if options.len() < 4 {
            return Err(wrong("fewer than four options"));
        }
        Ok(Problem { question: text(item, "question")?.to_owned(), answer, options })
    };
    let found = list.as_array().ok_or_else(|| wrong("expected a list"))?.iter().map(problem);
    let found: Vec<Problem> = found.collect::<Result<_, String>>()?;
    if found.is_empty() { Err(wrong("it is empty")) } else { Ok(found) }
}

fn last_problem(row: &Row) -> Result<Problem, String> {
    problems(row)?.pop().ok_or_else(|| "column `problems` is empty".to_owned())
}

fn race_text(row: &Row) -> Result<Value, String> {
    const BLANK: &str = "  _  .";
    let problems = problems(row)?;
    let mut found = format!("Article: {}\n\n", text(row, "article")?);
    let Some((last, before)) = problems.split_last() else { return Ok(found.into()) };
    for problem in before {
        let answer = &problem.options[problem.answer];
        match problem.question.strip_suffix(BLANK) {
            // All of the blank but its first space goes.
            Some(question) => found += &format!("{question} {answer}\n"),
            None => found += &format!("Question: {}\nAnswer: {answer}\n", problem.question),
        }
    }
    Ok((found + &last.question).into())
}

fn race_choice(row: &Row) -> Result<Value, String> {
    Ok(last_problem(row)?.options[..4].to_vec().into())
}

fn race_target(row: &Row) -> Result<Value, String> {
    Ok(last_problem(row)?.answer.into())
}

// COPA: a premise without its full stop, and what it is connected with.

fn copa_text(row: &Row) -> Result<Value, String> {
    let connector = match text(row, "question")? {
        "cause" => "because",
        "effect" => "therefore",
        other => return Err(format!("column `question` is {other:?}, expected cause or effect")),
    };
    let mut premise = strip(text(row, "premise")?).to_owned();
    premise.pop();
    Ok(format!("{premise} {connector}").into())
}

fn copa_choices(row: &Row) -> Result<[String; 2], String> {
    let choice = |name| -> Result<String, String> {
        let mut chars = text(row, name)?.chars();
        let first = chars.next().ok_or_else(|| format!("column `{name}` is empty"))?;
        Ok(format!(" {}{}", first.to_lowercase(), chars.as_str()))
    };
    Ok([choice("choice1")?, choice("choice2")?])
}

fn copa_choice(row: &Row) -> Result<Value, String> {
    Ok(json!(copa_choices(row)?))
}

fn copa_target(row: &Row) -> Result<Value, String> {
    let [first, second] = copa_choices(row)?;
    Ok(if row.get("label") == Some(&json!(0)) { first } else { second }.into())
}

// ReCoRD: entities in the place of `@placeholder`.

fn record(row: &Row) -> Result<Value, String> {
    let sorted = |name| -> Result<Value, String> {
        let mut texts = texts(row, name)?;
        texts.sort_unstable();
        texts.dedup();
        Ok(json!(texts))
    };
    Ok(with(row, [("entities", sorted("entities")?), ("answers", sorted("answers")?)]))
}

fn record_text(row: &Row) -> Result<Value, String> {
    let mut parts = strip(text(row, "passage")?).split("\n@highlight\n");
    let mut found = format!("{}\n\n", parts.next().unwrap_or_default());
    for highlight in parts {
        found += &format!("  - {highlight}.\n");
    }
    Ok(found.into())
}

fn record_answer(row: &Row, entity: &str) -> Result<String, String> {
    Ok(format!("  - {}", text(row, "query")?).replace("@placeholder", entity))
}

fn record_target(row: &Row) -> Result<Value, String> {
    let answers = texts(row, "answers")?;
    let first = answers.first().ok_or("column `answers` is empty")?;
    Ok(record_answer(row, first)?.into())
}

fn record_choice(row: &Row) -> Result<Value, String> {
    let choices = texts(row, "entities")?.into_iter().map(|entity| record_answer(row, entity));
    Ok(json!(choices.collect::<Result<Vec<_>, _>>()?))
}

// WebQuestions: answers that do not begin with another one.

fn webqs_answers(row: &Row) -> Result<Vec<&str>, String> {
    let mut answers = texts(row, "answers")?;
    answers.sort_unstable();
    let mut kept: Vec<&str> = Vec::new();
    for answer in answers {
        if kept.last().is_none_or(|last| !answer.starts_with(last)) {
            kept.push(answer);
        }
    }
    Ok(kept)
}

fn webqs_choice(row: &Row) -> Result<Value, String> {
    Ok(json!(webqs_answers(row)?))
}

fn webqs_target(row: &Row) -> Result<Value, String> {
    Ok((0..webqs_answers(row)?.len()).collect::<Vec<_>>().into())
}

/// The answer as SQuAD compares it: without case, punctuation, articles and more than one space.
pub(crate) fn normalized(answer: &str) -> Vec<String> {
    let mut answer = answer.to_lowercase();
    answer.retain(|c| !c.is_ascii_punctuation());
    let articles = Regex::new(r"\b(a|an|the)\b");
    let answer = articles.map_or(answer.clone(), |re| re.replace_all(&answer, " ").into_owned());
    answer.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
