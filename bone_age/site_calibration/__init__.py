"""A model put right for one site, from that site's own labelled radiographs: a new version, judged like any other."""
