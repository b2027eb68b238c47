"""Reads a report as a browser's parser would, as far as tests need it."""

import base64
import gzip
import json
from html.parser import HTMLParser

_VOID = {"meta", "link", "input", "img", "br", "hr"}


class ReadPage(HTMLParser):
    """Tags with their attributes in order, ids, the text of each element with an id, and scripts by id."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.unclosed, self.scripts, self.texts = [], [], [], [], []
        self.feed(html.decode())
        self.close()
        self.unclosed = [tag for tag, _ in self.open]

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in _VOID:
            self.open.append((tag, found))
        if tag == "script":
            self.scripts.append((found, []))

    def handle_endtag(self, tag):
        assert [name for name, _ in self.open[-1:]] == [tag], f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "script":
            self.scripts[-1][1].append(data)
        elif self.open and self.open[-1][0] != "style":
            self.texts.append(data)

    def all(self, tag):
        return [found for name, found in self.tags if name == tag]

    def script(self, name):
        [text] = ["".join(parts) for found, parts in self.scripts if found.get("id") == name]
        return text

    @property
    def specs(self):
        return json.loads(self.script("specs"))

    @property
    def samples(self):
        return json.loads(gzip.decompress(base64.b64decode(self.script("packed"))))

    def plotted(self, figure):
        """The rows behind a figure's plot."""
        return self.specs[figure]["datasets"]["rows"]
