"""One HTML file about a run, or about any folders of predictions and truth; figures and tables."""
