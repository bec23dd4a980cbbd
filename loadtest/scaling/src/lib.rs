//! Scaling, simulated: the real core and the real policy, with workers, network and broker that are imagined.
