-- nested columns as they are
SELECT id, tags, attrs, items, pos FROM bags;
