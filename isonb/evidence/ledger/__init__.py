"""The claims as data (`claims.toml`) and the rules that judge them; `isonb.evidence.claims` brings both together."""
