//! Programs take turns: round after round, so that what else happens on the machine hits all of them.

use crate::measurement::{Figures, Row, Samples};
use crate::program::Program;
use crate::{Bench, Result};

/// Prepares each program once and then measures it once in every round; a program that fails takes no further part, and
/// its row says why. The figures are the medians of the rounds.
pub fn measure<T>(
    bench: &Bench,
    prepare: impl Fn(Program) -> Result<T>,
    round: impl Fn(&mut T) -> Result<Figures>,
) -> Vec<Row> {
    let prepared = bench.programs.iter().map(|program| (prepare(*program), Samples::default()));
    let mut subjects: Vec<(Result<T>, Samples)> = prepared.collect();
    for _ in 0..bench.rounds {
        for (state, samples) in &mut subjects {
            let Ok(subject) = state else { continue };
            match round(subject) {
                Ok(figures) => samples.add(figures),
                Err(error) => *state = Err(error),
            }
        }
    }
    let rows = subjects.into_iter().zip(&bench.programs);
    rows.map(|((state, samples), program)| Row::new(*program, state.map(|_| samples.medians())))
        .collect()
}
