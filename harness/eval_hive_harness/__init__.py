"""The Python half of eval-hive: plans and evaluates lm_eval tasks. Standard library and lm_eval only."""
