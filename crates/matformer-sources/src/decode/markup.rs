//! OSIS, the markup of SWORD's modules, as plain text in documents.

/// Titles and texts of a text's books; what stands before the first is named `front`.
pub(super) fn cut_at_books(text: &str) -> Vec<(String, String)> {
    documents(text, |tag| tag.name == "div" && tag.attribute("type") == Some("book"))
}

/// The same of its chapters.
pub(super) fn cut_at_chapters(text: &str) -> Vec<(String, String)> {
    documents(text, |tag| tag.name == "chapter")
}

/// Cuts `text` before each opening tag for which `begins` holds; its `osisID` is the title.
/// Documents without text are left out.
fn documents(text: &str, begins: impl Fn(&Tag<'_>) -> bool) -> Vec<(String, String)> {
    let mut documents = Vec::new();
    let (mut title, mut plain) = ("front".to_owned(), Plain::default());
    let mut rest = text;
    while let Some((before, tag, after)) = next_tag(rest) {
        plain.push(before);
        rest = after;
        if tag.name == "note" && !tag.is_closed() {
            rest = after.split_once("</note>").map_or("", |(_, after)| after);
        }
        if begins(&tag) && tag.attribute("sID").is_some() {
            let finished = std::mem::take(&mut plain).finish();
            documents.extend(finished.map(|text| (title, text)));
            title = tag.attribute("osisID").unwrap_or_default().to_owned();
        }
        plain.gap = plain.gap.max(tag.gap());
    }
    plain.push(rest);
    documents.extend(plain.finish().map(|text| (title, text)));
    documents
}

/// The text before the next tag, the tag, and what follows it.
fn next_tag(text: &str) -> Option<(&str, Tag<'_>, &str)> {
    let (before, rest) = text.split_once('<')?;
    let (inside, after) = rest.split_once('>')?;
    let name = inside.trim_start_matches('/');
    let end = name.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(name.len());
    let (name, _) = name.split_at(end);
    Some((before, Tag { name, inside }, after))
}

struct Tag<'a> {
    name: &'a str,
    inside: &'a str,
}

impl<'a> Tag<'a> {
    fn attribute(&self, name: &str) -> Option<&'a str> {
        let (_, rest) = self.inside.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    }

    /// Whether nothing is inside: `<note/>` or `</note>`.
    fn is_closed(&self) -> bool {
        self.inside.starts_with('/') || self.inside.ends_with('/')
    }

    /// What stands in its place.
    fn gap(&self) -> Gap {
        match self.name {
            "p" | "div" | "title" | "chapter" | "lg" | "list" | "table" => Gap::Paragraph,
            "l" | "lb" | "item" | "row" => Gap::Line,
            "cell" => Gap::Space,
            "note" => Gap::Note,
            _ => Gap::None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    #[default]
    None,
    /// A space before words, nothing before punctuation.
    Note,
    Space,
    Line,
    Paragraph,
}

/// Text without markup; gaps, of spaces and of tags, do not add up: the largest counts.
#[derive(Default)]
struct Plain {
    text: String,
    gap: Gap,
}

impl Plain {
    fn push(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let (c, length) = match c {
                '&' => entity(rest),
                c => (c, c.len_utf8()),
            };
            rest = rest.get(length..).unwrap_or_default();
            if c.is_whitespace() {
                self.gap = self.gap.max(Gap::Space);
                continue;
            }
            if !self.text.is_empty() {
                self.text.push_str(match self.gap {
                    Gap::Note if c.is_alphanumeric() || "“‘([".contains(c) => " ",
                    Gap::None | Gap::Note => "",
                    Gap::Space => " ",
                    Gap::Line => "\n",
                    Gap::Paragraph => "\n\n",
                });
            }
            self.gap = Gap::None;
            self.text.push(c);
        }
    }

    /// The text, if there is any.
    fn finish(mut self) -> Option<String> {
        self.text.push('\n');
        (self.text.len() > 1).then_some(self.text)
    }
}

/// The character that `text` starts with, which is `&`, and the bytes that it takes.
fn entity(text: &str) -> (char, usize) {
    let known = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\'')];
    let found = known.into_iter().find(|(entity, _)| text.starts_with(entity));
    found.map_or(('&', 1), |(entity, c)| (c, entity.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        cut_at_books(text).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn tags_become_gaps_or_nothing() {
        let text = "<div sID=\"g1\" type=\"x-p\"/> In the <w lemma=\"strong:H1\">beginning</w>,\n <hi>God</hi>  \
                    &amp; &lt;man&gt;.<note n=\"1\">or <hi>gods</hi></note>So<note/>, be<note>a</note> it<note>b</note>done. \
                    <div eID=\"g1\"/> <title>A</title><l>one</l> <l>two</l><lb/> <lb/>three";
        assert_eq!(
            plain(text),
            "In the beginning, God & <man>. So, be it done.\n\nA\n\none\ntwo\nthree\n"
        );
        assert_eq!(plain("<row><cell>1</cell><cell>a</cell></row><row>x</row>"), "1 a\nx\n");
    }

    #[test]
    fn documents_begin_at_opening_tags() {
        let text = "<milestone/> front <div osisID=\"Gen\" sID=\"g1\" type=\"book\"/> one \
                    <chapter osisID=\"Gen.1\" sID=\"Gen.1\"/>two<chapter eID=\"Gen.1\"/> \
                    <div eID=\"g1\" osisID=\"Gen\" type=\"book\"/><div osisID=\"Exod\" sID=\"g2\" \
                    type=\"book\"/><div sID=\"g3\" type=\"section\"/> three";
        let documents = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(title, text)| ((*title).into(), (*text).into())).collect()
        };
        assert_eq!(
            cut_at_books(text),
            documents(&[("front", "front\n"), ("Gen", "one\n\ntwo\n"), ("Exod", "three\n")])
        );
        assert_eq!(
            cut_at_chapters(text),
            documents(&[("front", "front\n\none\n"), ("Gen.1", "two\n\nthree\n")])
        );
        assert_eq!(cut_at_books("<milestone n=\"1\"/> "), []);
    }

    #[test]
    fn damaged_markup_loses_no_more_than_it_must() {
        assert_eq!(plain("a < b"), "a < b\n");
        assert_eq!(plain("a <note>b"), "a\n");
        assert_eq!(plain("a & b &unknown; &"), "a & b &unknown; &\n");
        assert_eq!(plain("a <> b </> c"), "a b c\n");
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(text in "[<>/&; a-zé\"=]{0,80}") {
            let _ = cut_at_books(&text);
            let _ = cut_at_chapters(&text);
        }
    }
}
