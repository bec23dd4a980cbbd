//! What use costs, by a book of prices.
