"""A page in the browser: a picture in, its people seen from all sides.

    python -m pare_jax.demo --checkpoint=runs/final

`session` is what the page does, without gradio; `page` is what it looks like, with it.
"""
