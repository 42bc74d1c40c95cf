"""The claims as data, each beside the rule that judges it; `isonb.evidence.claims` gathers and judges them."""
