//! The fields of a request: each is taken once, and what is left is refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Fields that say something about the client and change no answer.
const HARMLESS: [&str; 6] =
    ["user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"];

/// The fields of a JSON object that were not taken yet. `null` is as good as absent.
pub(crate) struct Fields {
    left: Map<String, Value>,
    taken: Vec<&'static str>,
}

impl Fields {
    /// Reads the body of a request.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let at = error.valid_up_to();
            ApiError::invalid(format!("the body is not UTF-8 from byte {at} on, expected JSON"))
        })?;
        match serde_json::from_str(text) {
            Ok(Value::Object(left)) => Ok(Self { left, taken: Vec::new() }),
            Ok(other) => {
                let found = crate::error::short(&other);
                Err(ApiError::invalid(format!("the body is {found}, expected a JSON object")))
            }
            Err(error) => {
                Err(ApiError::invalid(format!("the body is not JSON: {error}; expected an object")))
            }
        }
    }

    /// Takes a field as it is.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.taken.push(name);
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(&value).map(Some).ok_or_else(|| ApiError::field(name, &value, expected))
    }

    pub(crate) fn string(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        self.typed(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(crate) fn number(&mut self, name: &'static str) -> Result<Option<f64>, ApiError> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// A whole number in a range.
    pub(crate) fn whole(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let (least, most) = (*range.start(), *range.end());
        let expected = if most == usize::MAX {
            format!("a whole number, {least} or more")
        } else {
            format!("a whole number from {least} to {most}")
        };
        let read = |value: &Value| {
            let whole = value.as_u64().and_then(|n| usize::try_from(n).ok());
            // Some clients write 16.0.
            let float = || value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..9e15).contains(x));
            whole.or_else(|| float().map(|x| x as usize)).filter(|n| range.contains(n))
        };
        self.typed(name, &expected, read)
    }

    /// A seed: any whole number.
    pub(crate) fn seed(&mut self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let read = |value: &Value| value.as_u64().or_else(|| value.as_i64().map(|n| n as u64));
        self.typed(name, "a whole number", read)
    }

    /// One string or several.
    pub(crate) fn strings(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Result<Vec<String>, ApiError> {
        let expected = format!("a string, or at most {most} strings");
        let read = |value: &Value| match value {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(all) if all.len() <= most => {
                all.iter().map(|one| one.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        Ok(self.typed(name, &expected, read)?.unwrap_or_default())
    }

    /// Numbers by token.
    pub(crate) fn biases(&mut self, name: &'static str) -> Result<Vec<(u32, f32)>, ApiError> {
        let expected = "an object such as {\"1234\": -5}: token ids with numbers from -100 to 100";
        let read = |value: &Value| {
            let pair = |(token, bias): (&String, &Value)| {
                let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias))?;
                Some((token.parse().ok()?, bias as f32))
            };
            let pairs: Option<BTreeMap<u32, f32>> = value.as_object()?.iter().map(pair).collect();
            Some(pairs?.into_iter().collect())
        };
        Ok(self.typed(name, expected, read)?.unwrap_or_default())
    }

    /// Takes a field that must have one of these values, if it is there.
    pub(crate) fn only(
        &mut self,
        name: &'static str,
        expected: &str,
        fits: impl FnOnce(&Value) -> bool,
    ) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !fits(&value) => Err(ApiError::unsupported(name, &value, expected)),
            _ => Ok(()),
        }
    }

    /// Refuses what is left.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let unknown = self.left.iter().find(|(name, _)| !HARMLESS.contains(&name.as_str()));
        let Some((name, _)) = unknown else { return Ok(()) };
        let mut known = self.taken;
        known.sort_unstable();
        known.dedup();
        Err(ApiError::invalid(format!(
            "`{name}`: unknown field, expected one of {}",
            known.join(", ")
        ))
        .about(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    fn said<T>(result: Result<T, ApiError>) -> String {
        result.err().map(|error| error.json()["error"]["message"].to_string()).unwrap_or_default()
    }

    #[test]
    fn fields_are_taken_once_and_the_rest_is_refused() {
        let mut all = fields(r#"{"n": 2.0, "stop": "a", "x": null, "user": "me", "y": 1}"#);
        assert_eq!(all.whole("n", 1..=4).unwrap(), Some(2));
        assert_eq!(all.strings("stop", 4).unwrap(), ["a"]);
        assert_eq!(all.take("x"), None);
        assert!(said(all.finish()).contains("`y`: unknown field, expected one of n, stop, x"));
        assert!(fields(r#"{"user": "me", "metadata": {}}"#).finish().is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut all = fields(r#"{"n": 9, "t": "hot", "s": [1], "b": {"x": 1}, "k": -1}"#);
        assert!(
            said(all.whole("n", 1..=4))
                .contains("`n`: found 9, expected a whole number from 1 to 4")
        );
        assert!(said(all.number("t")).contains("`t`: found \\\"hot\\\", expected a number"));
        assert!(said(all.strings("s", 4)).contains("`s`: found [1], expected a string"));
        assert!(said(all.biases("b")).contains("`b`: found"));
        assert!(
            said(all.whole("k", 0..=usize::MAX))
                .contains("found -1, expected a whole number, 0 or more")
        );
        for (body, expected) in [
            (&b"\xff\xfe"[..], "not UTF-8 from byte 0 on"),
            (b"[1]", "the body is [1], expected a JSON object"),
            (b"{\"a\": ", "the body is not JSON: EOF"),
            (b"", "the body is not JSON"),
        ] {
            assert!(said(Fields::parse(body).map(|_| ())).contains(expected));
        }
        let deep = "[".repeat(100_000);
        assert!(said(Fields::parse(deep.as_bytes()).map(|_| ())).contains("recursion limit"));
    }
}
