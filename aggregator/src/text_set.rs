//! A set of texts that cannot grow without bound.

use std::collections::{BTreeSet, btree_set};

/// A set of texts. Only the first of them in bytewise order are kept, and whether there are others.
///
/// The first members of a union depend only on the sets, so any order and any split of the members leads to the same
/// result. Without a bound, one child's day with a hundred thousand topics would make every transaction that touches it
/// read all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextSet {
    first: BTreeSet<Box<str>>,
    more: bool,
}

impl TextSet {
    /// How many are kept.
    pub const MOST: usize = 256;

    /// Adds one.
    pub fn insert(&mut self, text: &str) {
        if self.first.contains(text) {
            return;
        }
        let is_full = self.first.len() == Self::MOST;
        if is_full && self.first.last().is_some_and(|last| **last < *text) {
            self.more = true;
            return;
        }
        self.first.insert(text.into());
        self.cut();
    }

    /// Adds those of another set.
    pub fn merge(&mut self, other: Self) {
        self.more |= other.more;
        self.first.extend(other.first);
        self.cut();
    }

    /// Those that are kept, in order.
    pub fn first(&self) -> btree_set::Iter<'_, Box<str>> {
        self.first.iter()
    }

    /// Whether there are others.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.more
    }

    fn cut(&mut self) {
        while self.first.len() > Self::MOST {
            self.first.pop_last();
            self.more = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_and_split_of_the_members_leads_to_the_first_of_them(
            members in prop::collection::vec(0u16..700, 0..900), parts in 1usize..5,
        ) {
            let name = |n: &u16| format!("{n:x}");
            let all: BTreeSet<String> = members.iter().map(name).collect();
            let mut whole = TextSet::default();
            for part in members.chunks(members.len().div_ceil(parts).max(1)) {
                let mut set = TextSet::default();
                part.iter().for_each(|member| set.insert(&name(member)));
                prop_assert!(set.first().len() <= TextSet::MOST);
                whole.merge(set);
            }
            let first: Vec<&str> = whole.first().map(|text| &**text).collect();
            let expected: Vec<&str> = all.iter().map(String::as_str).take(TextSet::MOST).collect();
            prop_assert_eq!(first, expected);
            prop_assert_eq!(whole.has_more(), all.len() > TextSet::MOST);
        }
    }
}
