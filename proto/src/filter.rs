//! Tags filters: which publications a subscriber wants, by their tags.
//!
//! A filter comes as a tree of [`FilterNode`], is checked and compiled once by [`validate`], and then asked for every
//! publication. Filters that mean the same by their text (numbers and lists of values in whatever form) are equal and have
//! one hash, so that subscribers with equal filters can share an answer. Source: protocol §10.

mod decimal;

use crate::client::FilterNode;
use decimal::Decimal;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// Deepest nesting of `and`, `or` and `not`, the root and the leaf counted. The reference has no bound but the size of a
/// message.
pub const DEPTH_MAX: usize = 96;

/// Most nodes of a filter; each costs 10 to 50 ns per publication. The reference has no bound but the size of a message.
/// Values of `in` and `nin` are not counted: they take little more memory than their text, and are searched by halves.
pub const NODES_MAX: usize = 1024;

/// A valid filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    root: Node,
}

impl Filter {
    /// Whether a publication with these tags is wanted.
    #[must_use]
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.root.matches(tags)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Not(Box<Node>),
    Leaf { key: Box<str>, test: Test },
}

impl Node {
    fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Or(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::Not(node) => !node.matches(tags),
            Self::Leaf { key, test } => test.matches(tags.get(&**key).map(String::as_str)),
        }
    }
}

/// What a leaf asks of a tag. Names are the words of `cmp`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Test {
    Eq(Box<str>),
    Neq(Box<str>),
    In(Values),
    Nin(Values),
    Ex,
    Nex,
    Sw(Box<str>),
    Ew(Box<str>),
    Ct(Box<str>),
    Gt(Bound),
    Gte(Bound),
    Lt(Bound),
    Lte(Bound),
}

/// Right side of a comparison; `None` if `val` is no number, which is valid and matches nothing.
type Bound = Option<Box<Decimal<'static>>>;

impl Test {
    fn matches(&self, tag: Option<&str>) -> bool {
        match self {
            Self::Eq(val) => tag == Some(val),
            Self::Neq(val) => tag != Some(val),
            // The reference takes a missing tag for an empty one here, and only here.
            Self::In(vals) => vals.contains(tag.unwrap_or_default()),
            Self::Nin(vals) => !vals.contains(tag.unwrap_or_default()),
            Self::Ex => tag.is_some(),
            Self::Nex => tag.is_none(),
            Self::Sw(val) => tag.is_some_and(|tag| tag.starts_with(&**val)),
            Self::Ew(val) => tag.is_some_and(|tag| tag.ends_with(&**val)),
            Self::Ct(val) => tag.is_some_and(|tag| tag.contains(&**val)),
            Self::Gt(bound) => compare(tag, bound, Ordering::is_gt),
            Self::Gte(bound) => compare(tag, bound, Ordering::is_ge),
            Self::Lt(bound) => compare(tag, bound, Ordering::is_lt),
            Self::Lte(bound) => compare(tag, bound, Ordering::is_le),
        }
    }
}

fn compare(tag: Option<&str>, bound: &Bound, want: fn(Ordering) -> bool) -> bool {
    let (Some(tag), Some(bound)) = (tag.and_then(Decimal::parse), bound) else { return false };
    want(tag.compare(bound))
}

/// A set of strings in one piece of memory: a list of short values stays about as small as it was in its message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Values {
    /// The strings one after another.
    text: Box<str>,
    /// Start and end of each, ascending by string, each string once.
    spans: Box<[(u32, u32)]>,
}

impl Values {
    fn new(vals: &[String]) -> Result<Self, FilterError> {
        let mut vals: Vec<&str> = vals.iter().map(String::as_str).collect();
        vals.sort_unstable();
        vals.dedup();
        let (mut text, mut spans) = (String::new(), Vec::with_capacity(vals.len()));
        for val in vals {
            let start = text.len();
            text.push_str(val);
            let end = u32::try_from(text.len()).map_err(|_| FilterError::TooLarge)?;
            spans.push((start as u32, end));
        }
        Ok(Self { text: text.into(), spans: spans.into() })
    }

    fn contains(&self, val: &str) -> bool {
        self.spans.binary_search_by(|&(start, end)| self.text[start as usize..end as usize].cmp(val)).is_ok()
    }
}

/// Why a filter is refused. The subscriber is told [`BAD_REQUEST`](crate::codes::ReplyError::BAD_REQUEST).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// `op` is not empty, `and`, `or` or `not`.
    UnknownOp,
    /// A leaf has no `cmp`, or one that is not defined.
    UnknownCmp,
    /// A leaf other than `ex` and `nex` has no `key`.
    MissingKey,
    /// A leaf that compares with one value has no `val`.
    MissingVal,
    /// `in` or `nin` has no `vals`.
    MissingVals,
    /// A leaf has a `val` or `vals` that its `cmp` does not use.
    UnusedVal,
    /// `and` or `or` has no nodes, or `not` has none or several.
    WrongNodes,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// More than [`NODES_MAX`] nodes, or 4 GiB of values.
    TooLarge,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownOp => "unknown op in a filter",
            Self::UnknownCmp => "missing or unknown cmp in a filter",
            Self::MissingKey => "a filter compares without a key",
            Self::MissingVal => "a filter compares without a val",
            Self::MissingVals => "in or nin without vals in a filter",
            Self::UnusedVal => "val or vals of a filter that its cmp does not use",
            Self::WrongNodes => "wrong number of nodes in a filter",
            Self::TooDeep => "a filter is nested too deep",
            Self::TooLarge => "a filter has too many nodes",
        })
    }
}

impl std::error::Error for FilterError {}

/// Checks and compiles a filter. Fields that a node does not look at (nodes of a leaf, the key of an `and`) may hold
/// anything, as in the reference.
pub fn validate(node: &FilterNode) -> Result<Filter, FilterError> {
    let mut compiler = Compiler { nodes: 0 };
    Ok(Filter { root: compiler.node(node, 1)? })
}

struct Compiler {
    /// Nodes so far.
    nodes: usize,
}

impl Compiler {
    fn node(&mut self, node: &FilterNode, depth: usize) -> Result<Node, FilterError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(FilterError::TooLarge);
        }
        if depth > DEPTH_MAX {
            return Err(FilterError::TooDeep);
        }
        match (node.op.as_str(), &node.nodes[..]) {
            ("", _) => leaf(node),
            ("and" | "or" | "not", []) => Err(FilterError::WrongNodes),
            ("and", nodes) => Ok(Node::And(self.children(nodes, depth)?)),
            ("or", nodes) => Ok(Node::Or(self.children(nodes, depth)?)),
            ("not", [child]) => Ok(Node::Not(Box::new(self.node(child, depth + 1)?))),
            ("not", _) => Err(FilterError::WrongNodes),
            _ => Err(FilterError::UnknownOp),
        }
    }

    fn children(&mut self, nodes: &[FilterNode], depth: usize) -> Result<Box<[Node]>, FilterError> {
        nodes.iter().map(|node| self.node(node, depth + 1)).collect()
    }
}

fn leaf(node: &FilterNode) -> Result<Node, FilterError> {
    let test = test(node)?;
    if node.key.is_empty() && !matches!(test, Test::Ex | Test::Nex) {
        return Err(FilterError::MissingKey);
    }
    Ok(Node::Leaf { key: node.key.as_str().into(), test })
}

fn test(node: &FilterNode) -> Result<Test, FilterError> {
    Ok(match node.cmp.as_str() {
        "eq" => Test::Eq(val(node)?.into()),
        "neq" => Test::Neq(val(node)?.into()),
        "in" => Test::In(vals(node)?),
        "nin" => Test::Nin(vals(node)?),
        "ex" => unused(node, Test::Ex)?,
        "nex" => unused(node, Test::Nex)?,
        "sw" => Test::Sw(val(node)?.into()),
        "ew" => Test::Ew(val(node)?.into()),
        "ct" => Test::Ct(val(node)?.into()),
        "gt" => Test::Gt(bound(node)?),
        "gte" => Test::Gte(bound(node)?),
        "lt" => Test::Lt(bound(node)?),
        "lte" => Test::Lte(bound(node)?),
        _ => return Err(FilterError::UnknownCmp),
    })
}

/// The one value of a leaf.
fn val(node: &FilterNode) -> Result<&str, FilterError> {
    match (node.val.as_str(), &node.vals[..]) {
        ("", _) => Err(FilterError::MissingVal),
        (val, []) => Ok(val),
        _ => Err(FilterError::UnusedVal),
    }
}

fn bound(node: &FilterNode) -> Result<Bound, FilterError> {
    Ok(Decimal::parse(val(node)?).map(|bound| Box::new(bound.into_owned())))
}

/// The list of values of a leaf.
fn vals(node: &FilterNode) -> Result<Values, FilterError> {
    match (node.val.as_str(), &node.vals[..]) {
        (_, []) => Err(FilterError::MissingVals),
        ("", vals) => Values::new(vals),
        _ => Err(FilterError::UnusedVal),
    }
}

/// A test without a value.
fn unused(node: &FilterNode, test: Test) -> Result<Test, FilterError> {
    if node.val.is_empty() && node.vals.is_empty() { Ok(test) } else { Err(FilterError::UnusedVal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: &str) -> FilterNode {
        crate::json::decode_alone(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    fn filter(json: &str) -> Filter {
        validate(&node(json)).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    /// Tags of four publications, as in the recorded conformance cases.
    fn publications() -> [BTreeMap<String, String>; 4] {
        [
            tags(&[("k", "a"), ("n", "1")]),
            tags(&[("k", "ab"), ("n", "2")]),
            tags(&[("k", "b"), ("n", "3")]),
            tags(&[("other", "x")]),
        ]
    }

    /// Which of the publications, counted from one, pass.
    #[track_caller]
    fn check(json: &str, want: &[usize]) {
        let (filter, publications) = (filter(json), publications());
        let passed: Vec<_> =
            (1..).zip(&publications).filter(|(_, tags)| filter.matches(tags)).map(|(at, _)| at).collect();
        assert_eq!(passed, want, "{json}");
    }

    #[test]
    fn a_leaf_compares_one_tag() {
        check(r#"{"cmp":"eq","key":"k","val":"ab"}"#, &[2]);
        check(r#"{"cmp":"neq","key":"k","val":"b"}"#, &[1, 2, 4]);
        check(r#"{"cmp":"in","key":"k","vals":["a","d"]}"#, &[1]);
        check(r#"{"cmp":"in","key":"k","vals":["b","a","ab","a"]}"#, &[1, 2, 3]);
        check(r#"{"cmp":"nin","key":"k","vals":["a","d"]}"#, &[2, 3, 4]);
        check(r#"{"cmp":"ex","key":"other"}"#, &[4]);
        check(r#"{"cmp":"nex","key":"other"}"#, &[1, 2, 3]);
        check(r#"{"cmp":"sw","key":"k","val":"a"}"#, &[1, 2]);
        check(r#"{"cmp":"ew","key":"k","val":"b"}"#, &[2, 3]);
        check(r#"{"cmp":"ct","key":"k","val":"b"}"#, &[2, 3]);
        check(r#"{"cmp":"gt","key":"n","val":"2"}"#, &[3]);
        check(r#"{"cmp":"gte","key":"n","val":"2.0"}"#, &[2, 3]);
        check(r#"{"cmp":"lt","key":"n","val":"+2"}"#, &[1]);
        check(r#"{"cmp":"lte","key":"n","val":"02"}"#, &[1, 2]);
    }

    #[test]
    fn nodes_combine() {
        let [b, two] = [r#"{"cmp":"eq","key":"k","val":"b"}"#, r#"{"cmp":"lt","key":"n","val":"2"}"#];
        check(&format!(r#"{{"op":"and","nodes":[{b},{two}]}}"#), &[]);
        check(&format!(r#"{{"op":"or","nodes":[{b},{two}]}}"#), &[1, 3]);
        check(&format!(r#"{{"op":"not","nodes":[{b}]}}"#), &[1, 2, 4]);
        check(&format!(r#"{{"op":"not","nodes":[{{"op":"or","nodes":[{b},{two}]}}]}}"#), &[2, 4]);
        check(&format!(r#"{{"op":"and","nodes":[{b}]}}"#), &[3]);
    }

    #[test]
    fn a_missing_tag_is_empty_for_lists_only() {
        check(r#"{"cmp":"in","key":"k","vals":["","b"]}"#, &[3, 4]);
        check(r#"{"cmp":"nin","key":"k","vals":["","b"]}"#, &[1, 2]);
    }

    #[test]
    fn a_comparison_with_what_is_no_number_is_false() {
        for cmp in ["gt", "gte", "lt", "lte"] {
            check(&format!(r#"{{"cmp":"{cmp}","key":"n","val":"1e3"}}"#), &[]);
            check(&format!(r#"{{"cmp":"{cmp}","key":"k","val":"0"}}"#), &[]);
        }
        check(r#"{"op":"not","nodes":[{"cmp":"gt","key":"n","val":"many"}]}"#, &[1, 2, 3, 4]);
    }

    #[test]
    fn the_tag_without_a_name_can_exist() {
        let empty = tags(&[("", "x")]);
        assert!(filter(r#"{"cmp":"ex"}"#).matches(&empty));
        assert!(!filter(r#"{"cmp":"nex"}"#).matches(&empty));
    }

    #[track_caller]
    fn check_refused(json: &str, want: FilterError) {
        assert_eq!(validate(&node(json)), Err(want), "{json}");
        assert_eq!(validate(&node(&format!(r#"{{"op":"not","nodes":[{json}]}}"#))), Err(want), "not {json}");
    }

    #[test]
    fn leaves_need_what_their_comparison_uses_and_nothing_else() {
        use FilterError::*;
        check_refused("{}", UnknownCmp);
        check_refused(r#"{"key":"k","val":"a"}"#, UnknownCmp);
        check_refused(r#"{"cmp":"like","key":"k","val":"a"}"#, UnknownCmp);
        check_refused(r#"{"cmp":"EQ","key":"k","val":"a"}"#, UnknownCmp);
        for cmp in ["eq", "neq", "sw", "ew", "ct", "gt", "gte", "lt", "lte"] {
            check_refused(&format!(r#"{{"cmp":"{cmp}","val":"a"}}"#), MissingKey);
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k"}}"#), MissingVal);
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k","vals":["a"]}}"#), MissingVal);
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k","val":"a","vals":["a"]}}"#), UnusedVal);
        }
        for cmp in ["in", "nin"] {
            check_refused(&format!(r#"{{"cmp":"{cmp}","vals":["a"]}}"#), MissingKey);
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k"}}"#), MissingVals);
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k","val":"a"}}"#), MissingVals);
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k","val":"a","vals":["a"]}}"#), UnusedVal);
        }
        for cmp in ["ex", "nex"] {
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k","val":"a"}}"#), UnusedVal);
            check_refused(&format!(r#"{{"cmp":"{cmp}","key":"k","vals":["a"]}}"#), UnusedVal);
        }
    }

    #[test]
    fn operations_need_their_nodes() {
        use FilterError::*;
        let leaf = r#"{"cmp":"ex","key":"k"}"#;
        check_refused(r#"{"op":"xor","nodes":[]}"#, UnknownOp);
        check_refused(&format!(r#"{{"op":"AND","nodes":[{leaf}]}}"#), UnknownOp);
        for op in ["and", "or", "not"] {
            check_refused(&format!(r#"{{"op":"{op}"}}"#), WrongNodes);
        }
        check_refused(&format!(r#"{{"op":"not","nodes":[{leaf},{leaf}]}}"#), WrongNodes);
        check_refused(&format!(r#"{{"op":"or","nodes":[{leaf},{{}}]}}"#), UnknownCmp);
    }

    #[test]
    fn fields_that_a_node_does_not_look_at_may_hold_anything() {
        check(r#"{"cmp":"ex","key":"other","nodes":[{}]}"#, &[4]);
        check(
            r#"{"op":"and","key":"k","cmp":"?","val":"v","vals":["w"],"nodes":[{"cmp":"ex","key":"k"}]}"#,
            &[1, 2, 3],
        );
    }

    /// A leaf below that many `not`.
    fn nested(depth: usize) -> FilterNode {
        (1..depth).fold(node(r#"{"cmp":"ex","key":"k"}"#), |child, _| FilterNode {
            op: "not".into(),
            nodes: vec![child],
            ..Default::default()
        })
    }

    #[test]
    fn depth_and_number_of_nodes_are_bounded() {
        assert!(validate(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(validate(&nested(DEPTH_MAX + 1)), Err(FilterError::TooDeep));
        let flat = |nodes| FilterNode { op: "or".into(), nodes: vec![nested(1); nodes], ..Default::default() };
        assert!(validate(&flat(NODES_MAX - 1)).is_ok());
        assert_eq!(validate(&flat(NODES_MAX)), Err(FilterError::TooLarge));
    }

    #[test]
    fn filters_of_one_meaning_are_equal() {
        let list = r#"{"cmp":"in","key":"k","vals":["b","a"]}"#;
        assert_eq!(filter(list), filter(r#"{"cmp":"in","key":"k","vals":["a","b","a"],"nodes":[{}]}"#));
        assert_ne!(filter(list), filter(r#"{"cmp":"in","key":"k","vals":["ab"]}"#));
        assert_ne!(filter(list), filter(r#"{"cmp":"nin","key":"k","vals":["a","b"]}"#));
        let number = r#"{"cmp":"gt","key":"n","val":"1.50"}"#;
        assert_eq!(filter(number), filter(r#"{"cmp":"gt","key":"n","val":"+01.5"}"#));
        assert_ne!(filter(number), filter(r#"{"cmp":"gte","key":"n","val":"1.5"}"#));
    }
}
