"""π0 (Black et al., arXiv 2410.24164): a flow-matching action expert beside PaliGemma."""
