//! The JSON pointers of all shapes, as one tree along which an object is parsed.

use std::collections::BTreeSet;

use crate::domain::pointer;

/// One step of the pointers, and what comes below it; the root stands for the object itself.
#[derive(Debug, Default)]
pub(super) struct Tree {
    name: Box<str>,
    /// The whole pointer to here.
    pointer: Box<str>,
    children: Vec<Tree>,
}

impl Tree {
    /// The tree of `pointers`, any of which may occur more than once.
    pub(super) fn of<'p>(pointers: impl IntoIterator<Item = &'p str>) -> Self {
        let mut root = Self::default();
        for pointer in pointers.into_iter().collect::<BTreeSet<_>>() {
            root.add(pointer);
        }
        root
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| *child.name == *name)
    }

    /// The step for an item of an array.
    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        // Most arrays are beside every pointer; they cost no text.
        if self.children.is_empty() { None } else { self.child(&index.to_string()) }
    }

    pub(super) fn pointer(&self) -> &str {
        &self.pointer
    }

    fn add(&mut self, pointer: &str) {
        let mut here = self;
        let mut written = String::with_capacity(pointer.len());
        for (step, text) in pointer::steps(pointer).zip(pointer.split('/').skip(1)) {
            written.push('/');
            written.push_str(text);
            let at = here.children.iter().position(|child| *child.name == *step).unwrap_or_else(|| {
                here.children.push(Self { name: step.into(), pointer: written.as_str().into(), children: Vec::new() });
                here.children.len() - 1
            });
            here = &mut here.children[at];
        }
    }
}
