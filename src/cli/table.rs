//! Columns as people read them.

use std::io::{self, Write};

use clap::builder::styling::Style;

use crate::config::text::printable;

/// Rows of cells; each column is as wide as its widest cell.
pub(super) struct Table {
    /// For each column whether it is flush right, as numbers are.
    right: &'static [bool],
    rows: Vec<(Style, Vec<String>)>,
}

impl Table {
    pub(super) fn new(right: &'static [bool]) -> Self {
        let rows = Vec::new();
        Self { right, rows }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row<const N: usize>(&mut self, cells: [&dyn ToString; N]) {
        self.styled_row(Style::new(), cells);
    }

    /// The same, and how it looks.
    pub(super) fn styled_row<const N: usize>(&mut self, style: Style, cells: [&dyn ToString; N]) {
        debug_assert_eq!(N, self.right.len());
        let cells = cells.iter().map(|cell| printable(&cell.to_string()));
        self.rows.push((style, cells.collect()));
    }

    /// Writes it, two spaces in.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|(_, row)| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.right.len()).map(width).collect();
        for (style, row) in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(self.right) {
                line.push_str("  ");
                line.push_str(&match right {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                });
            }
            writeln!(out, "{style}{}{style:#}", line.trim_end())?;
        }
        Ok(())
    }
}
