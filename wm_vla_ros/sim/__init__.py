"""A table-top world in MuJoCo: scene, tasks with success predicates, scripted expert and play."""
