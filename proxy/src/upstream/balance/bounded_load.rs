//! `hash_balance_factor`: consistent hashing with bounded loads. A host that has more than its share of the active requests
//! is passed over for others in an order that the hash decides.

use std::sync::Arc;

use super::hashing::{Share, Table, TableSize};
use super::mersenne::Mersenne;
use super::{PickContext, Picker};
use crate::upstream::cluster::host::Host;

#[derive(Debug)]
pub(super) struct BoundedLoad {
    shares: Box<[Share]>,
    table: Arc<dyn Table>,
    /// In percent of the average.
    factor: u64,
}

impl BoundedLoad {
    pub(super) fn new(shares: Vec<Share>, table: Arc<dyn Table>, factor: u32) -> Self {
        BoundedLoad { shares: shares.into(), table, factor: factor.into() }
    }

    /// Active requests over what the host may have; above 1 it is overloaded.
    fn overload(&self, share: &Share, active: u64) -> f64 {
        let slots = ((active + 1) * self.factor).div_ceil(100);
        let own = (slots as f64 * share.share).ceil().max(1.0);
        share.host.active_requests() as f64 / own
    }

    /// The first host that is not overloaded in the hash's own order; else the least overloaded one.
    fn walk(&self, hash: u64, overloaded: usize, active: u64) -> &Share {
        let count = self.shares.len();
        let mut order: Vec<u32> = (0..count as u32).collect();
        let mut random = Mersenne::new(hash as u32);
        let mut least = &self.shares[overloaded];
        let mut least_overload = self.overload(least, active);
        for index in 0..count {
            let other = random.below((count - index) as u32) as usize;
            order.swap(index, index + other);
            let place = order[index] as usize;
            if place == overloaded {
                continue;
            }
            let share = &self.shares[place];
            let overload = self.overload(share, active);
            if overload <= 1.0 {
                return share;
            }
            if overload < least_overload {
                (least, least_overload) = (share, overload);
            }
        }
        least
    }
}

impl Picker for BoundedLoad {
    fn pick(&self, context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let hash = context.hash.unwrap_or_else(|| fastrand::u64(..));
        let place = self.table.find(hash, context.attempt)?;
        let share = &self.shares[place];
        if self.overload(share, context.active_requests) <= 1.0 {
            return Some(&share.host);
        }
        Some(&self.walk(hash, place, context.active_requests).host)
    }

    fn table(&self) -> Option<TableSize> {
        Some(self.table.size())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{place, shares};
    use super::*;

    /// Every hash leads to the first host.
    #[derive(Debug)]
    struct First;

    impl Table for First {
        fn find(&self, _hash: u64, _attempt: u32) -> Option<usize> {
            Some(0)
        }

        fn size(&self) -> TableSize {
            TableSize::default()
        }
    }

    #[test]
    fn a_full_host_is_passed_over_in_the_order_of_the_hash() {
        let list = shares(&[1, 1, 1, 1]);
        let picker = BoundedLoad::new(list.clone(), Arc::new(First), 150);
        let pick = |hash, active_requests| {
            let context = PickContext { hash: Some(hash), active_requests, ..Default::default() };
            place(picker.pick(&context).unwrap())
        };
        assert_eq!(pick(7, 0), 0);
        (0..3).for_each(|_| list[0].host.stats.rq_active.inc());
        // 4 slots of (3 + 1) * 150 % = 6 for each of four hosts: 2.
        let others: std::collections::BTreeSet<_> = (0..50).map(|hash| pick(hash, 3)).collect();
        assert_eq!(others, [1, 2, 3].into());
        assert_eq!(pick(7, 3), pick(7, 3));
        (0..3).for_each(|_| list[0].host.stats.rq_active.dec());
        assert_eq!(pick(7, 0), 0);
    }

    #[test]
    fn when_all_are_full_the_least_full_one_is_picked() {
        let list = shares(&[1, 1, 1]);
        for (place, share) in list.iter().enumerate() {
            (0..10 - place).for_each(|_| share.host.stats.rq_active.inc());
        }
        let picker = BoundedLoad::new(list, Arc::new(First), 100);
        let context = PickContext { hash: Some(1), active_requests: 0, ..Default::default() };
        assert_eq!(place(picker.pick(&context).unwrap()), 2);
    }
}
