"""Code that is a public name, such as `kd.Distiller`, links to its page.

Pages are read on GitHub, too, where Sphinx' roles would show as they are.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform


class LinkNames(SphinxPostTransform):
    """Makes links, once all public names are known."""

    default_priority = 5

    def run(self):
        domain = self.env.get_domain("py")
        for literal in list(self.document.findall(nodes.literal)):
            name = re.sub(r"^kd\.", "keras_kd.", literal.astext())
            if name not in domain.objects or is_link(literal):
                continue
            link = domain.resolve_xref(
                self.env,
                self.env.docname,
                self.app.builder,
                "obj",
                name,
                pending_xref(),
                literal.deepcopy(),
            )
            literal.replace_self(link)


def is_link(node):
    return isinstance(node.parent, (nodes.reference, pending_xref))


def setup(app):
    """Adds the transform."""
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True}
