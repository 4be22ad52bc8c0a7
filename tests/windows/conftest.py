"""The tests in `inside` run in a Windows Python alone: tests/e2e/test_under_wine.py starts them."""

collect_ignore_glob = ["inside/*"]
