"""A web page that finds the people in a photograph and shows them in 3D.

    python -m pare_jax.demo --checkpoint=runs/final

`session` computes everything that the page shows and needs no gradio; `blocks` is the page.
"""
