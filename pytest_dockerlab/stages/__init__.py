"""The stages: build → train → loss → artifact → serve → predict. Each acts on the engine and returns a fact.

One file a stage, each with one function `run(context, …) -> fact`. `pipeline.Pipeline` calls them in order, stores what
they return and knows which can be left out.
"""
