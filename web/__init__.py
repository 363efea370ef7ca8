"""The camera page: a model in the browser of a phone or computer, as a static folder."""
