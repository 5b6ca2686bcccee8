//! Which conversation's keys and values lie in which sequence of the library's cache.

/// What one place of the cache holds: a token, or (below zero) a part of a picture.
pub(crate) type Cell = i32;

/// One sequence of the cache.
#[derive(Debug, Default)]
struct Slot {
    /// What lies in it.
    cells: Vec<Cell>,
    /// The conversation, where it has a name.
    key: Option<String>,
    taken: bool,
    /// When it was last used, by the count of takings.
    used: u64,
}

/// All sequences. Their number bounds what is kept; the one that was used the longest ago is given up first.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
}

/// A sequence that was taken for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which.
    pub(crate) slot: usize,
    /// How many cells it already has in common with the prompt.
    pub(crate) common: usize,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            clock: 0,
        }
    }

    /// Takes a sequence for a prompt: that of its conversation; else the one that has more in common with it than would be lost;
    /// else an empty one; else the one that was used the longest ago. `None` where all are taken.
    pub(crate) fn take(&mut self, key: Option<&str>, prompt: &[Cell]) -> Option<Taken> {
        let free = || self.slots.iter().enumerate().filter(|(_, slot)| !slot.taken);
        let named = free().find(|(_, slot)| key.is_some() && slot.key.as_deref() == key);
        let akin = || {
            free()
                .map(|(number, slot)| {
                    let common = common(&slot.cells, prompt);
                    (number, slot, 2 * common as i64 - slot.cells.len() as i64)
                })
                .filter(|(_, _, worth)| *worth > 0)
                .max_by_key(|(_, _, worth)| *worth)
                .map(|(number, slot, _)| (number, slot))
        };
        let empty = || free().find(|(_, slot)| slot.cells.is_empty());
        let oldest = || free().min_by_key(|(_, slot)| slot.used);
        let (number, slot) = named.or_else(akin).or_else(empty).or_else(oldest)?;
        // The last token is decoded again in any case: what follows it is what's asked for.
        let common = common(&slot.cells, prompt).min(prompt.len().saturating_sub(1));
        self.clock += 1;
        let clock = self.clock;
        let slot = &mut self.slots[number];
        slot.taken = true;
        slot.used = clock;
        slot.key = key.map(str::to_owned);
        Some(Taken { slot: number, common })
    }

    /// What lies in a sequence.
    pub(crate) fn cells(&self, slot: usize) -> &[Cell] {
        &self.slots[slot].cells
    }

    /// More lies in it now.
    pub(crate) fn extend(&mut self, slot: usize, cells: &[Cell]) {
        self.slots[slot].cells.extend_from_slice(cells);
    }

    /// Only the first `length` cells lie in it now.
    pub(crate) fn truncate(&mut self, slot: usize, length: usize) {
        self.slots[slot].cells.truncate(length);
    }

    /// The stream is over; what lies in the sequence stays for the next turn.
    pub(crate) fn release(&mut self, slot: usize) {
        self.slots[slot].taken = false;
    }

    /// What lies in it can't be relied on.
    pub(crate) fn spoil(&mut self, slot: usize) {
        self.slots[slot].cells.clear();
        self.slots[slot].key = None;
    }
}

/// How many cells two sequences begin with in common.
fn common(left: &[Cell], right: &[Cell]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(slots: &mut Slots, key: Option<&str>, prompt: &[Cell]) -> Taken {
        let taken = slots.take(key, prompt).expect("one is free");
        slots.truncate(taken.slot, taken.common);
        slots.extend(taken.slot, &prompt[taken.common..]);
        taken
    }

    #[test]
    fn a_conversation_finds_its_sequence_again() {
        let mut slots = Slots::new(3);
        let a = fill(&mut slots, Some("a"), &[1, 2, 3, 4]);
        let b = fill(&mut slots, Some("b"), &[1, 2, 9, 9, 9]);
        assert_ne!(a.slot, b.slot);
        slots.release(a.slot);
        slots.release(b.slot);
        let again = fill(&mut slots, Some("a"), &[1, 2, 3, 4, 5, 6]);
        assert_eq!(
            again,
            Taken {
                slot: a.slot,
                common: 4
            }
        );
        slots.release(again.slot);
        let same = slots.take(Some("a"), &[1, 2, 3, 4, 5, 6]).expect("free");
        assert_eq!(same.common, 5, "the last token is always decoded");
    }

    #[test]
    fn without_a_name_the_longest_beginning_wins() {
        let mut slots = Slots::new(3);
        let a = fill(&mut slots, None, &[1, 2, 3, 4]);
        let b = fill(&mut slots, None, &[5, 6, 7, 8]);
        slots.release(a.slot);
        slots.release(b.slot);
        assert_eq!(
            slots
                .take(None, &[5, 6, 7, 8, 9])
                .map(|taken| (taken.slot, taken.common)),
            Some((b.slot, 4))
        );
        // Too little in common to give up what another conversation has.
        let other = slots.take(Some("x"), &[1, 9]).expect("an empty one");
        assert_eq!((other.common, slots.cells(other.slot).len()), (0, 0));
    }

    #[test]
    fn the_one_that_rested_longest_is_given_up_and_none_that_is_taken() {
        let mut slots = Slots::new(2);
        let a = fill(&mut slots, Some("a"), &[1, 1]);
        let b = fill(&mut slots, Some("b"), &[2, 2]);
        assert_eq!(slots.take(Some("c"), &[3]), None);
        slots.release(b.slot);
        slots.release(a.slot);
        assert_eq!(fill(&mut slots, Some("c"), &[3, 3]).slot, a.slot);
        slots.spoil(b.slot);
        assert!(slots.cells(b.slot).is_empty());
    }
}
