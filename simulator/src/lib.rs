//! A believable family app as a load source, with a ledger of every id and its answer.
