//! What is made of a generated text before it is compared with the answers: the filters of lm-evaluation-harness.

use fancy_regex::{Captures, Regex};

use crate::{
    OutputType, Result,
    keys::{Keys, regex, unknown_key},
    matching::is_space,
    yaml::Node,
};

/// One entry of `filter_list`: filters in their order. Each entry has scores of its own.
#[derive(Debug, Clone)]
pub struct Filters {
    /// Its name.
    pub name: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    RemoveWhitespace,
    Lowercase,
    Extract(Extract),
}

/// Takes a part of a text.
#[derive(Debug, Clone)]
struct Extract {
    pattern: Regex,
    /// Which of all matches: from the end if negative.
    select: i64,
    /// Where nothing matches.
    fallback: String,
}

impl Filters {
    /// No filters, as a task without `filter_list` has them.
    pub(crate) fn none() -> Self {
        Self { name: "none".to_owned(), steps: Vec::new() }
    }

    /// The text that is compared with the answers.
    pub(crate) fn apply(&self, text: &str) -> String {
        self.steps.iter().fold(text.to_owned(), |text, step| match step {
            Step::RemoveWhitespace => text.trim_matches(is_space).to_owned(),
            Step::Lowercase => text.to_lowercase(),
            Step::Extract(extract) => extract.of(&text),
        })
    }
}

impl Extract {
    /// As Python's `findall`: the whole match of a pattern without groups, otherwise the first group with a text.
    fn of(&self, text: &str) -> String {
        // A pattern that takes too long on a text does not match it.
        let found: Vec<Captures<'_>> = self.pattern.captures_iter(text).flatten().collect();
        let at = match usize::try_from(self.select) {
            Ok(at) => Some(at),
            Err(_) => found.len().checked_sub(self.select.unsigned_abs() as usize),
        };
        let part = at.and_then(|at| found.get(at)).and_then(|captures| {
            let mut groups = captures.iter().skip(1).flatten().map(|group| group.as_str());
            match captures.len() {
                1 => captures.get(0).map(|whole| whole.as_str()),
                2 => Some(groups.next().unwrap_or_default()),
                _ => groups.find(|group| !group.is_empty()),
            }
        });
        part.map_or_else(|| self.fallback.clone(), |part| part.trim_matches(is_space).to_owned())
    }
}

impl Keys<'_> {
    /// `filter_list`.
    pub fn filters(&self, output: OutputType) -> Result<Vec<Filters>> {
        let Some(list) = self.get("filter_list") else { return Ok(vec![Filters::none()]) };
        let entries = list.list("filter_list")?;
        if entries.is_empty() {
            return Err(list.wrong("filter_list", "at least one list of filters"));
        }
        entries.iter().map(|entry| filters(entry, output)).collect()
    }
}

fn filters(entry: &Node, output: OutputType) -> Result<Filters> {
    const KEYS: [&str; 2] = ["filter_list.name", "filter_list.filter"];
    let mut filters = Filters::none();
    for (key, node) in entry.map("filter_list")? {
        match key.as_str() {
            "name" => filters.name = node.text(KEYS[0])?,
            "filter" => {
                let steps = node.list(KEYS[1])?.iter().map(|filter| step(filter, output));
                filters.steps = steps.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
            }
            _ => return Err(unknown_key(node, &format!("filter_list.{key}"), &KEYS)),
        }
    }
    Ok(filters)
}

/// One filter; `take_first` does nothing, as there is one text of each example.
fn step(filter: &Node, output: OutputType) -> Result<Option<Step>> {
    const FILTER: &str = "filter_list.filter";
    const FUNCTION: &str = "filter_list.filter.function";
    let pairs = filter.map(FILTER)?;
    let of = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, node)| node);
    let function = of("function").ok_or_else(|| filter.wrong(FILTER, "the key `function`"))?;
    let mut known = vec![FUNCTION];
    let step = match (function.value.text().as_str(), output) {
        ("take_first", _) => None,
        ("remove_whitespace", OutputType::GenerateUntil) => Some(Step::RemoveWhitespace),
        ("lowercase", OutputType::GenerateUntil) => Some(Step::Lowercase),
        ("regex", OutputType::GenerateUntil) => {
            known.extend(EXTRACT);
            Some(Step::Extract(extract(&of)?))
        }
        _ => {
            let expected = "`take_first`; for generated texts also `remove_whitespace`, `lowercase` or `regex`: \
                            other filters are not supported";
            return Err(function.wrong(FUNCTION, expected));
        }
    };
    for (key, node) in pairs {
        let name = format!("{FILTER}.{key}");
        if !known.contains(&name.as_str()) {
            return Err(unknown_key(node, &name, &known));
        }
    }
    Ok(step)
}

const EXTRACT: [&str; 3] = [
    "filter_list.filter.regex_pattern",
    "filter_list.filter.group_select",
    "filter_list.filter.fallback",
];

fn extract<'a>(of: &dyn Fn(&str) -> Option<&'a Node>) -> Result<Extract> {
    let pattern = match of("regex_pattern") {
        Some(node) => regex(node, EXTRACT[0])?,
        // As the harness has it.
        None => Regex::new(r"#### (\-?[0-9\.\,]+)")
            .unwrap_or_else(|_| unreachable!("a regular expression")),
    };
    let select = of("group_select").map_or(Ok(0), |node| node.int(EXTRACT[1]))?;
    let fallback =
        of("fallback").map_or(Ok("[invalid]".to_owned()), |node| node.text(EXTRACT[2]))?;
    Ok(Extract { pattern, select, fallback })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python prints them.
    #[test]
    fn parts_are_those_of_findall() {
        let part = |pattern: &str, select: i64, text: &str| {
            let pattern = Regex::new(pattern).unwrap();
            Extract { pattern, select, fallback: "[invalid]".to_owned() }.of(text)
        };
        let number = r"(-?[$0-9.,]{2,})|(-?[0-9]+)";
        assert_eq!(part(number, -1, "3 + 14 is 17, so 5"), "5");
        assert_eq!(part(number, 0, "3 + 14 is 17, so 5"), "3");
        assert_eq!(part(number, 1, "3 + 14 is 17, so 5"), "14");
        assert_eq!(part(number, -1, "none"), "[invalid]");
        assert_eq!(part(number, 7, "1 2"), "[invalid]");
        let answer = r"((?<=The answer is )(.*)(?=.)|(?<=the answer is )(.*)(?=.))";
        assert_eq!(part(answer, 0, "So the answer is (B) ."), "(B)");
        assert_eq!(part("[a-c]+", -1, "xab cab"), "cab");
        assert_eq!(part("x(b?)", 0, "xc"), "");
    }
}
