# The program that is installed may have migrated the database: an older one could not read it any more.
if [ -r /usr/lib/batchacct/schema ]; then
    installed=$(cat /usr/lib/batchacct/schema)
    if [ "$installed" -gt "@SCHEMA@" ]; then
        echo "@PACKAGE@ @VERSION@ is not installed: it knows schema @SCHEMA@ of the database, and the batchacct that is" >&2
        echo "installed has schema $installed, which no older program can read. Nothing is changed. To go back all the same:" >&2
        echo "remove batchacct (its data stays), restore the backup of the database that was made before the upgrade, and" >&2
        echo "install @VERSION@ then." >&2
        exit 1
    fi
fi
