# Sourced by scripts that install Debian trixie into a folder. Exits if there is no mirror.

# DEBIAN_MIRROR, or the mirror of this machine.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | sort -u | head -n 1)}
if [ -z "$mirror" ]; then
    echo "$0: no Debian mirror in the configuration of apt: set DEBIAN_MIRROR to the URL of a mirror" >&2
    exit 1
fi

# use_trixie FOLDER TYPE ARCHITECTURE: configures apt for trixie (deb or deb-src) with no package installed and with all
# of its files in FOLDER. Undo with `unset APT_CONFIG`.
use_trixie() {
    mkdir -p "$1/lists/partial" "$1/archives/partial"
    echo "$2 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$1/sources"
    cat >"$1/conf" <<END
APT::Architecture "$3";
APT::Architectures "$3";
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::Cache "$1";
Dir::Etc::SourceList "$1/sources";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$1/lists";
Dir::State::Status "/dev/null";
END
    export APT_CONFIG="$1/conf"
    apt-get -qq update
}
