"""`python -m langchain_glimprouter` is the command `glimprouter`."""

from langchain_glimprouter.cli import app

if __name__ == "__main__":
    app()
