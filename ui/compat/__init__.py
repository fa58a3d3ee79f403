"""The private parts of Gradio that the page relies on."""
